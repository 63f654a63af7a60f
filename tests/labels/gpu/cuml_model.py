"""What cuml.cluster.DBSCAN(metric="precomputed") does, in numpy, read off its sources (26.10: dbscan.pyx, dbscan.cuh, runner.cuh,
RAFT's weak_cc_batched and merge_labels): eps rounded to float32, batches of rows, labels by smallest core point, batches merged."""

from typing import Any

import numpy as np

LARGEST = {"int32": 2**31 - 1, "int64": 2**63 - 1}


class DBSCAN:
    rows_per_batch: int | None = None  # None: as many as fit; a number, to test several batches

    def __init__(
        self, *, eps: float, min_samples: int, metric: str, calc_core_sample_indices: bool = True, output_type: str | None = None
    ) -> None:
        assert metric == "precomputed"
        self.eps, self.min_samples = np.float32(eps), min_samples  # `cdef float eps`, for float64 matrices too

    def fit_predict(self, X: np.ndarray, y: Any = None, sample_weight: Any = None, *, out_dtype: str = "int32") -> np.ndarray:
        assert X.dtype in (np.float32, np.float64) and X.flags.c_contiguous and X.shape[0] == X.shape[1]
        count, none = len(X), LARGEST[out_dtype]
        batch = min(count, self.rows_per_batch or count)
        assert count * batch < none, "An overflow occurred with the current choice of precision"
        near = self.eps >= X
        weight = np.ones(count, X.dtype) if sample_weight is None else sample_weight.astype(X.dtype)
        core = (near @ weight).astype(out_dtype) >= self.min_samples
        labels = _weak(near, core, 0, batch, none)
        for start in range(batch, count, batch):
            labels = _merge(labels, _weak(near, core, start, min(start + batch, count), none), core, none)
        kept = labels != none
        out = np.full(count, -1, out_dtype)
        out[kept] = np.unique(labels[kept], return_inverse=True)[1]
        return out


def _weak(near: np.ndarray, core: np.ndarray, start: int, stop: int, none: int) -> np.ndarray:
    """Labels that spread along the pairs of some rows."""
    labels = np.where(core, np.arange(1, len(core) + 1), none)
    i, j = np.nonzero(near[start:stop])
    i = i + start
    while True:
        before = labels.copy()
        np.minimum.at(labels, j[core[i]], labels[i[core[i]]])
        np.minimum.at(labels, i[core[j]], labels[j[core[j]]])
        if np.array_equal(before, labels):
            return labels


def _merge(a: np.ndarray, b: np.ndarray, core: np.ndarray, none: int) -> np.ndarray:
    """Labels of two batches, equal where a core point has both."""
    root = np.arange(len(a))
    while True:
        before = root.copy()
        low = root[np.minimum(root[a[core] - 1], root[b[core] - 1])]
        np.minimum.at(root, a[core] - 1, low)
        np.minimum.at(root, b[core] - 1, low)
        if np.array_equal(before, root):
            break

    def rooted(labels: np.ndarray) -> np.ndarray:
        return np.where(labels == none, none, root[np.minimum(labels, len(a)) - 1] + 1)

    return np.minimum(rooted(a), rooted(b))

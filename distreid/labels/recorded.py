"""What an engine made at each stage of a labelling, kept on the host; and where two engines differ."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distreid.labels.api import PseudoLabels, make_pseudo_labels
from distreid.labels.reference import dbscan
from distreid.labels.settings import LabelSettings
from distreid.labels.stages import NearPairs, Stages
from distreid.retrieval.jaccard import symmetric
from distreid.retrieval.lists import Lists, Neighbours
from distreid.retrieval.prepare import Prepared
from distreid.retrieval.reciprocal import Csr

# By which an engine that sums in another order may differ. Distances J and V are of order 1, in float64.
ROUNDING = 1e-9
OF_LABELS = ("labels", "labels by scikit-learn")
STAGES = ("neighbours", "V", "pairs", "eps", *OF_LABELS, "silhouette", "centres")

Arrays = list[tuple[str, NDArray[Any]]]  # what it is, the array


class Recorder:
    """An engine whose neighbours, V, pairs, labels, centres and silhouettes are kept as numpy's arrays, by their names."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self.arrays: dict[str, Arrays] = defaultdict(list)
        self.cutoff = 1.0
        self.graph, self.sizes_U = Csr(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0)), np.empty(0, np.int64)

    def __getattr__(self, name: str) -> Any:
        """What is not kept: the engine's own."""
        return getattr(self._stages, name)

    def search(self, prepared: Prepared, k: int, *, apart_U: NDArray[np.int64] | None = None) -> Neighbours:
        found = self._stages.search(prepared, k, apart_U=apart_U)
        self.arrays["neighbours"] += [("rows", found[0]), ("d²", found[1])]
        return found

    def reciprocal(self, prepared: Prepared, lists: Lists) -> Any:
        v = self._stages.reciprocal(prepared, lists)
        self.arrays["V"] += _parts(self._stages.rows(v), "values")
        return v

    def pairs_within(self, weights: Any, cutoff: float) -> NearPairs:
        near = self._stages.pairs_within(weights, cutoff)
        self.graph, self.cutoff = near.graph, near.cutoff
        self.arrays["pairs"] = [("of points with J < 1", np.array([near.total])), *_parts(self.graph, "J")]
        return near

    def dbscan(self, near: Any, sizes_U: NDArray[np.int64], eps: float, min_samples: int) -> NDArray[np.int64]:
        labels_U = self._stages.dbscan(near, sizes_U, eps, min_samples)
        self.sizes_U = sizes_U
        for name in OF_LABELS:
            self.arrays[name] = [("", labels_U)]
        return labels_U

    def silhouettes(
        self, weights: Any, chosen_S: NDArray[np.int64], labels_U: NDArray[np.int64], sizes_K: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        values_S = self._stages.silhouettes(weights, chosen_S, labels_U, sizes_K)
        self.arrays["silhouette"] = [("", values_S)]
        return values_S

    def centers(self, prepared: Prepared, labels_N: NDArray[np.int64], normalized: bool) -> NDArray[np.float32]:
        centers_KD = self._stages.centers(prepared, labels_N, normalized)
        self.arrays["centres"] = [("", centers_KD)]
        return centers_KD


@dataclass(frozen=True)
class Record:
    """arrays: by stage, in their order. graph: J of u < w at row u, of the pairs with J ≤ cutoff. sizes_U: copies of each group."""

    arrays: dict[str, Arrays]
    graph: Csr
    cutoff: float
    sizes_U: NDArray[np.int64]
    result: PseudoLabels

    def by_scikit_learn(self, min_samples: int) -> "Record":
        """The same, but labels are also asked of scikit-learn, on these distances."""
        from sklearn.neighbors import sort_graph_by_row_values

        distances_UU = sort_graph_by_row_values(symmetric(self.graph), warn_when_not_sorted=False)
        labels_U = dbscan(distances_UU, self.result.eps, min_samples, self.sizes_U).astype(np.int64)
        return Record(self.arrays | {OF_LABELS[1]: [("", labels_U)]}, self.graph, self.cutoff, self.sizes_U, self.result)


def record(
    stages: Stages,
    features_ND: NDArray[np.floating],
    settings: LabelSettings,
    camids_N: NDArray[np.integer] | None,
    threads: int,
) -> Record:
    """A labelling by an engine, whose memory is given back."""
    recorder: Any = Recorder(stages)
    try:
        result = make_pseudo_labels(features_ND, settings, camids=camids_N, stages=recorder, threads=threads)
    finally:
        stages.release()
    made = recorder.arrays | {"eps": [("", np.array([result.eps]))]}
    arrays = {stage: made[stage] for stage in STAGES if stage in made}
    return Record(arrays, recorder.graph, recorder.cutoff, recorder.sizes_U, result)


def differences(expected: Record, found: Record, *, exact: bool) -> list[str]:
    """A line for each stage that differs. exact: in any bit; else by more than rounding, rows in any order."""
    mine, theirs = (record.arrays for record in (expected, found))
    if not exact:
        within = min(expected.cutoff, found.cutoff) - ROUNDING
        mine, theirs = _in_order(mine, within), _in_order(theirs, within)
    lines = []
    for stage in mine:
        parts = zip(mine[stage], theirs.get(stage, []), strict=False)
        said = [f"{name}: {line}" if name else line for (name, a), (_, b) in parts if (line := _difference(a, b, exact))]
        if len(mine[stage]) != len(theirs.get(stage, [])):
            said = ["other calls of the engine"]
        lines += [f"{stage}: {said[0]}"] if said else []
    return lines


def _parts(rows: Csr, values: str) -> Arrays:
    return [("row ends", rows.indptr), ("columns", rows.indices), (values, rows.data)]


def _in_order(arrays: dict[str, Arrays], within: float) -> dict[str, Arrays]:
    """V and pairs by row and column; of the pairs only those that lie surely within both engines' cutoff."""
    total, *pairs = arrays["pairs"]
    return arrays | {"V": _sorted(arrays["V"], np.inf), "pairs": [total, *_sorted(pairs, within)]}


def _sorted(parts: Arrays, within: float) -> Arrays:
    (_, indptr), (_, columns_E), (values, data_E) = parts
    rows_E = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    order = np.lexsort((columns_E, rows_E))
    order = order[data_E[order] <= within]
    ends = np.searchsorted(rows_E[order], np.arange(len(indptr)))
    return _parts(Csr(ends, columns_E[order], data_E[order]), values)


def _difference(expected: NDArray[Any], found: NDArray[Any], exact: bool) -> str:
    """In words; "" for none."""
    if expected.shape != found.shape:
        return f"{list(found.shape)} in place of {list(expected.shape)} values"
    if exact and expected.dtype != found.dtype:
        return f"{found.dtype} in place of {expected.dtype}"
    a, b = np.ascontiguousarray(expected).ravel(), np.ascontiguousarray(found).ravel()
    if exact:
        differ = a.view(f"u{a.itemsize}") != b.view(f"u{b.itemsize}")
    else:
        differ = ~np.isclose(a, b, rtol=0, atol=ROUNDING if a.dtype.kind == "f" else 0)
    at = np.flatnonzero(differ)
    return f"{len(at):,} of {a.size:,}, the first at {at[0]:,}: {b[at[0]]} in place of {a[at[0]]}" if len(at) else ""

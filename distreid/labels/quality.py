"""Figures of a labelling that need no target label: to watch a run, and to choose p and min_samples without looking at the answers."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from distreid.labels.jaccard import Csr

# Points on which the silhouette is measured, at most, and room for their sums per cluster (8 bytes each).
SAMPLES = 2048
ROOM = 8_000_000


def sizes(labels_N: NDArray[np.int64]) -> dict[str, float]:
    """clusters, outliers (points), smallest, median and largest cluster (0 when there is none)."""
    clustered = labels_N[labels_N >= 0]
    counts = np.bincount(clustered) if len(clustered) else np.zeros(1)
    return {
        "clusters": float(labels_N.max(initial=-1) + 1),
        "outliers": float(len(labels_N) - len(clustered)),
        "smallest_cluster": float(counts.min()),
        "median_cluster": float(np.median(counts)),
        "largest_cluster": float(counts.max()),
    }


@njit(cache=True, nogil=True)
def _similarity_sums(
    indptr: NDArray, indices: NDArray, data: NDArray, sizes_U: NDArray, labels_U: NDArray, sample_of_U: NDArray, sums_SK: NDArray
) -> None:
    for u in range(indptr.shape[0] - 1):
        for e in range(indptr[u], indptr[u + 1]):
            v = indices[e]
            if sample_of_U[u] >= 0 and labels_U[v] >= 0:
                sums_SK[sample_of_U[u], labels_U[v]] += (1.0 - data[e]) * sizes_U[v]
            if sample_of_U[v] >= 0 and labels_U[u] >= 0:
                sums_SK[sample_of_U[v], labels_U[u]] += (1.0 - data[e]) * sizes_U[u]


def silhouette(pairs: Csr, sizes_U: NDArray[np.int64], labels_U: NDArray[np.int64]) -> float:
    """Mean silhouette in Jaccard distance of clustered points: (b − a) / max(a, b), a the mean distance to the rest of the own
    cluster, b the least mean distance to another cluster; pairs that the graph does not hold are at distance 1.

    Exact up to 2,048 points, beyond that on as many evenly spaced ones. 0 with fewer than two clusters.
    """
    clusters = int(labels_U.max(initial=-1)) + 1
    if clusters < 2:
        return 0.0
    clustered = np.flatnonzero(labels_U >= 0)
    wanted = min(len(clustered), SAMPLES, max(ROOM // clusters, 1))
    chosen = clustered[np.arange(wanted) * len(clustered) // wanted]
    sample_of_U = np.full(len(labels_U), -1, np.int32)
    sample_of_U[chosen] = np.arange(wanted)
    sums_SK = np.zeros((wanted, clusters))
    _similarity_sums(pairs.indptr, pairs.indices, pairs.data, sizes_U, labels_U, sample_of_U, sums_SK)
    counts_K = np.bincount(labels_U[clustered], weights=sizes_U[clustered], minlength=clusters)
    own_S, rows_S = labels_U[chosen], np.arange(wanted)
    others_S = counts_K[own_S] - 1
    # Copies of the point itself are at distance 0.
    own_similarity_S = sums_SK[rows_S, own_S] + sizes_U[chosen] - 1
    a_S = 1 - np.divide(own_similarity_S, others_S, out=np.zeros(wanted), where=others_S > 0)
    means_SK = sums_SK / counts_K
    means_SK[rows_S, own_S] = -np.inf
    b_S = 1 - means_SK.max(1)
    largest_S = np.maximum(a_S, b_S)
    values_S = np.divide(b_S - a_S, largest_S, out=np.zeros(wanted), where=(largest_S > 0) & (others_S > 0))
    return float(np.average(values_S, weights=sizes_U[chosen]))


def agreement(labels_N: NDArray[np.int64], previous_N: NDArray[np.int64]) -> dict[str, float]:
    """Adjusted Rand index and the share of points clustered in both labellings; the index is taken over these points (0 if none)."""
    both = (labels_N >= 0) & (previous_N >= 0)
    share = float(both.mean())
    if not both.any():
        return {"adjusted_rand": 0.0, "clustered_in_both": share}
    width = int(previous_N.max()) + 1

    def pairs(keys: NDArray[np.int64]) -> int:
        counts = np.unique(keys, return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    together = pairs(labels_N[both] * width + previous_N[both])
    now, before = pairs(labels_N[both]), pairs(previous_N[both])
    total = int(both.sum()) * (int(both.sum()) - 1) // 2
    expected = now * before / max(total, 1)
    room = (now + before) / 2 - expected
    return {"adjusted_rand": (together - expected) / room if room else 1.0, "clustered_in_both": share}

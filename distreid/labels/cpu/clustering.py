"""DBSCAN on a sparse graph, silhouettes and the centres of clusters, compiled."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from distreid.labels.stages import members_of
from distreid.retrieval.blocks import run_blocks
from distreid.retrieval.distances import normalized_row
from distreid.retrieval.jaccard import overlaps
from distreid.retrieval.prepare import Prepared
from distreid.retrieval.reciprocal import Csr


@njit(cache=True, nogil=True)
def _root(parents: NDArray, u: int) -> int:
    while parents[u] != u:
        parents[u] = parents[parents[u]]
        u = parents[u]
    return u


@njit(cache=True, nogil=True)
def _dbscan(indptr: NDArray, indices: NDArray, data: NDArray, sizes: NDArray, eps: float, min_samples: int) -> NDArray:
    count = indptr.shape[0] - 1
    near = sizes.copy()
    for u in range(count):
        for e in range(indptr[u], indptr[u + 1]):
            v = indices[e]
            if v > u and data[e] <= eps:
                near[u] += sizes[v]
                near[v] += sizes[u]
    parents = np.arange(count)
    for u in range(count):
        if near[u] < min_samples:
            continue
        for e in range(indptr[u], indptr[u + 1]):
            v = indices[e]
            if v > u and data[e] <= eps and near[v] >= min_samples:
                a = _root(parents, u)
                b = _root(parents, v)
                # The smaller index stays the root, so that a cluster's root is its first core point.
                if a < b:
                    parents[b] = a
                elif b < a:
                    parents[a] = b
    labels = np.full(count, -1, np.int64)
    clusters = 0
    for u in range(count):
        if near[u] >= min_samples:
            if parents[u] == u:
                labels[u] = clusters
                clusters += 1
            else:
                labels[u] = labels[_root(parents, u)]
    for u in range(count):
        for e in range(indptr[u], indptr[u + 1]):
            v = indices[e]
            if v <= u or data[e] > eps or (near[u] >= min_samples) == (near[v] >= min_samples):
                continue
            core, border = (u, v) if near[u] >= min_samples else (v, u)
            if labels[border] == -1 or labels[core] < labels[border]:
                labels[border] = labels[core]
    return labels


def dbscan(pairs: Csr, sizes_U: NDArray[np.int64], eps: float, min_samples: int) -> NDArray[np.int64]:
    """DBSCAN's label of each group of identical points, given J of the pairs u < v; other entries are ignored.

    Numbered and assigned as scikit-learn does: clusters by their first core point, a border point to the first of its clusters.
    """
    return _dbscan(pairs.indptr, pairs.indices, pairs.data, sizes_U, eps, min_samples)


@njit(cache=True, nogil=True)
def silhouettes(
    start: int, stop: int, chosen_S: NDArray, labels_U: NDArray, sizes_U: NDArray, sizes_K: NDArray, v: tuple, out_S: NDArray
) -> None:
    """Silhouette of the points chosen_S[start..stop]."""
    count = sizes_U.shape[0]
    shared_U = np.zeros(count, np.float64)
    touched_U = np.empty(count + 1, np.int32)
    similarity_K = np.zeros(sizes_K.shape[0], np.float64)
    for s in range(start, stop):
        u = chosen_S[s]
        own = labels_U[u]
        found = overlaps(u, False, v, shared_U, touched_U)
        for f in range(found):
            w = touched_U[f]
            if labels_U[w] >= 0:
                # Copies of the point itself are at distance 0; the point is not its own company.
                same = 1.0 if w == u else shared_U[w] / (2.0 - shared_U[w])
                similarity_K[labels_U[w]] += same * (sizes_U[w] - (w == u))
        nearest = 0.0
        for f in range(found):
            label = labels_U[touched_U[f]]
            if label >= 0 and label != own:
                nearest = max(nearest, similarity_K[label] / sizes_K[label])
        a = 1.0 - similarity_K[own] / max(sizes_K[own] - 1, 1)
        b = 1.0 - nearest
        out_S[s] = (b - a) / max(a, b) if sizes_K[own] > 1 and max(a, b) > 0.0 else 0.0
        for f in range(found):
            shared_U[touched_U[f]] = 0.0
            if labels_U[touched_U[f]] >= 0:
                similarity_K[labels_U[touched_U[f]]] = 0.0


@njit(cache=True, nogil=True)
def _sum_clusters(
    start: int, stop: int, members: NDArray, offsets: NDArray, x_ND: NDArray, scales_N: NDArray, centers_KD: NDArray
) -> None:
    unit_D = np.empty(x_ND.shape[1], np.float64)
    sums_D = np.empty(x_ND.shape[1], np.float64)
    for k in range(start, stop):
        sums_D[:] = 0.0
        for m in range(offsets[k], offsets[k + 1]):
            normalized_row(x_ND[members[m]], scales_N[members[m]], unit_D)
            for d in range(sums_D.shape[0]):
                sums_D[d] += unit_D[d]
        for d in range(sums_D.shape[0]):
            centers_KD[k, d] = sums_D[d] / (offsets[k + 1] - offsets[k])


def cluster_centers(prepared: Prepared, labels_N: NDArray[np.int64], normalized: bool, threads: int) -> NDArray[np.float32]:
    """C_k: the mean of the (normalised or raw) features of cluster k, summed in float64: float32 [K, D]."""
    order_N, offsets = members_of(labels_N)
    clusters = len(offsets) - 1
    scales_N = prepared.inverse_norms_N if normalized else np.ones(len(labels_N))
    centers_KD = np.empty((clusters, prepared.x_ND.shape[1]), np.float32)
    run_blocks(
        lambda start, stop: _sum_clusters(start, stop, order_N, offsets, prepared.x_ND, scales_N, centers_KD), clusters, 64, threads
    )
    return centers_KD

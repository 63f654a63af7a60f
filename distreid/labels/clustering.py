"""eps from a proportion of nearest pairs, DBSCAN on a sparse graph, centres."""

from decimal import ROUND_DOWN, Context, Decimal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from distreid.errors import UserError
from distreid.labels.distance_kernels import normalized_row
from distreid.labels.jaccard import Csr
from distreid.labels.pairs import Pairs, copies_of, zero_pairs
from distreid.labels.prepare import Prepared
from distreid.labels.threads import run_blocks


def pairs_asked(p: float, count: int) -> int:
    """round(p · N(N−1)/2), at least one."""
    total = count * (count - 1) // 2
    asked = round(p * total)
    if asked < 1:
        raise UserError(f"p = {p} asks for none of the {total:,} pairs of {count} features: use p ≥ {1 / max(total, 1):.1e}")
    return asked


def mean_of_smallest(values: NDArray[np.float64], asked: int, copies: NDArray[np.int64] | None, zeros: int) -> float:
    """Mean of the `asked` smallest of: `zeros` zeros, the `values` (each `copies` times), and ones without end.

    The same to the last bit however many larger values are given: they are summed in ascending order.
    """
    remaining = max(asked - zeros, 0)
    if copies is None:
        taken = min(remaining, len(values))
        total = float(np.sort(np.partition(values, taken - 1)[:taken]).sum()) if taken else 0.0
    else:
        order = np.argsort(values, kind="stable")
        upto = np.cumsum(copies[order])
        times = np.clip(remaining - (upto - copies[order]), 0, copies[order])
        used = np.count_nonzero(times)
        total, taken = float((values[order[:used]] * times[:used]).sum()), int(times.sum())
    return (total + (remaining - taken)) / asked


def check_enough(asked: int, stored: int, count: int) -> None:
    """UserError when more pairs are asked for than have J < 1: their mean would say nothing about the features."""
    if asked > stored:
        largest = Decimal(stored) / (count * (count - 1) // 2)
        advised = Context(prec=2, rounding=ROUND_DOWN).plus(largest)
        raise UserError(
            f"p asks for the {asked:,} nearest pairs but only {stored:,} pairs share neighbours: use p ≤ {advised:.1e}, or give eps"
        )


def eps_of_pairs(pairs: Pairs, sizes_U: NDArray[np.int64], asked: int) -> float:
    """eps of groups of copies: a pair of groups stands for all pairs between them, a group for its pairs at distance 0."""
    zeros = zero_pairs(sizes_U)
    check_enough(asked, pairs.total + zeros, int(sizes_U.sum()))
    copies = copies_of(pairs.graph, sizes_U) if zeros else None
    return mean_of_smallest(pairs.graph.data, asked, copies, zeros)


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


def dbscan_pairs(pairs: Csr, sizes_U: NDArray[np.int64], eps: float, min_samples: int) -> NDArray[np.int64]:
    """DBSCAN's label of each group of identical points, given J of the pairs u < v; other entries are ignored.

    Numbered and assigned as scikit-learn does: clusters by their first core point, a border point to the first of its clusters.
    """
    return _dbscan(pairs.indptr, pairs.indices, pairs.data, sizes_U, eps, min_samples)


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
    clusters = int(labels_N.max(initial=-1)) + 1
    order_N = np.argsort(labels_N, kind="stable")
    offsets = np.searchsorted(labels_N[order_N], np.arange(clusters + 1))
    scales_N = prepared.inverse_norms_N if normalized else np.ones(len(labels_N))
    centers_KD = np.empty((clusters, prepared.x_ND.shape[1]), np.float32)
    run_blocks(
        lambda start, stop: _sum_clusters(start, stop, order_N, offsets, prepared.x_ND, scales_N, centers_KD), clusters, 64, threads
    )
    return centers_KD

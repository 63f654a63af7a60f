"""Compiled loops behind `hits`: exact scores, and how many gallery entries come before each positive.

The exact score of gallery row g for query q is `dot(q, g) / scale[g] - shift[g]` in float64. A product of two float32
numbers is exact in float64 and `dot` always adds in the same order, so equal rows tie exactly on every machine.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def dot(a_D: NDArray[np.float32], b_D: NDArray[np.float32]) -> float:
    """Float64 inner product in eight fixed partial sums, which the compiler may keep in one vector register."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = len(a_D) - len(a_D) % 8
    for i in range(0, whole, 8):
        s0 += np.float64(a_D[i]) * np.float64(b_D[i])
        s1 += np.float64(a_D[i + 1]) * np.float64(b_D[i + 1])
        s2 += np.float64(a_D[i + 2]) * np.float64(b_D[i + 2])
        s3 += np.float64(a_D[i + 3]) * np.float64(b_D[i + 3])
        s4 += np.float64(a_D[i + 4]) * np.float64(b_D[i + 4])
        s5 += np.float64(a_D[i + 5]) * np.float64(b_D[i + 5])
        s6 += np.float64(a_D[i + 6]) * np.float64(b_D[i + 6])
        s7 += np.float64(a_D[i + 7]) * np.float64(b_D[i + 7])
    for i in range(whole, len(a_D)):
        s0 += np.float64(a_D[i]) * np.float64(b_D[i])
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@njit(nogil=True, cache=True)
def squared_norms(features_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """|x|² of every row, float64 [N]."""
    out_N = np.empty(len(features_ND), np.float64)
    for n in range(len(features_ND)):
        out_N[n] = dot(features_ND[n], features_ND[n])
    return out_N


@njit(nogil=True, cache=True)
def score(
    query_D: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    g: int,
    scale_G: NDArray[np.float64],
    shift_G: NDArray[np.float64],
) -> float:
    """The exact score of gallery row g; larger is nearer."""
    return dot(query_D, gallery_GD[g]) / scale_G[g] - shift_G[g]


@njit(nogil=True, cache=True)
def order_by_score(
    query_QD: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    scale_G: NDArray[np.float64],
    shift_G: NDArray[np.float64],
    offsets: NDArray[np.int64],
    index_T: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Sorts each query's gallery rows, index_T[offsets[q]:offsets[q+1]], in place: nearest first, ties by index.

    On entry they must be in ascending order. Returns their exact scores, float64 [T], in the new order.
    """
    scores_T = np.empty(len(index_T), np.float64)
    for q in range(len(query_QD)):
        start, stop = offsets[q], offsets[q + 1]
        found = np.empty(stop - start, np.float64)
        for j in range(start, stop):
            found[j - start] = score(query_QD[q], gallery_GD, index_T[j], scale_G, shift_G)
        order = np.argsort(-found, kind="mergesort")  # stable
        index_T[start:stop] = index_T[start:stop][order]
        scores_T[start:stop] = found[order]
    return scores_T


@njit(nogil=True, cache=True)
def count_before(
    scores_BG: NDArray[np.float32],
    first: int,
    begin: int,
    end: int,
    query_QD: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    scale_G: NDArray[np.float64],
    shift_G: NDArray[np.float64],
    offsets: NDArray[np.int64],
    index_T: NDArray[np.int64],
    exact_T: NDArray[np.float64],
    below_T: NDArray[np.float32],
    above_T: NDArray[np.float32],
    before_T: NDArray[np.int64],
) -> None:
    """Fills before_T: for each positive, the gallery entries with a finite score that come before it.

    scores_BG: approximate scores of queries first, first + 1, …; rows begin:end are done. Entries that do not count
    hold -inf. A score over above_T[j] is surely before positive j and one under below_T[j] surely after it; what lies
    between is decided by exact scores, and by gallery index where those are equal.
    """
    for b in range(begin, end):
        q = first + b
        row_G = scores_BG[b]
        known_G = np.empty(0, np.float64)  # exact scores, made when the first undecided entry turns up
        for j in range(offsets[q], offsets[q + 1]):
            low, high = below_T[j], above_T[j]
            surely = np.int32(0)
            perhaps = np.int32(0)
            for g in range(len(row_G)):
                surely += np.int32(row_G[g] > high)
                perhaps += np.int32(row_G[g] >= low)
            before_T[j] = surely
            if perhaps == surely:
                continue
            if len(known_G) == 0:
                known_G = np.full(len(row_G), np.nan)
            for g in range(len(row_G)):
                if row_G[g] < low or row_G[g] > high:
                    continue
                if np.isnan(known_G[g]):
                    known_G[g] = score(query_QD[q], gallery_GD, g, scale_G, shift_G)
                if known_G[g] > exact_T[j] or (known_G[g] == exact_T[j] and g < index_T[j]):
                    before_T[j] += 1


@njit(nogil=True, cache=True)
def settle(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    query_QD: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    scale_G: NDArray[np.float64],
    shift_G: NDArray[np.float64],
    offsets: NDArray[np.int64],
    index_T: NDArray[np.int64],
    exact_T: NDArray[np.float64],
    first_slot: NDArray[np.int64],
    last_slot: NDArray[np.int64],
    before_T: NDArray[np.int64],
) -> None:
    """Adds to before_T the undecided pairs (query rows[i], gallery columns[i]).

    Pair i is undecided against the query's positives first_slot[i]:last_slot[i], counted from its nearest.
    """
    for i in range(len(rows)):
        q, g = rows[i], columns[i]
        exact = score(query_QD[q], gallery_GD, g, scale_G, shift_G)
        for j in range(offsets[q] + first_slot[i], offsets[q] + last_slot[i]):
            if exact > exact_T[j] or (exact == exact_T[j] and g < index_T[j]):
                before_T[j] += 1

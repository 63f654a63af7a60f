"""The compiled loops behind `rerank`. What they give is defined by float64 scores (`distreid.evaluation.kernels.dot`); float32
products, with a bound of their error, say which of these need not be computed.

The kernels of the same names in `distreid.retrieval.gpu` give the same bits.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from distreid.evaluation.kernels import dot
from distreid.retrieval.decay import decay
from distreid.retrieval.jaccard import overlaps

TINY = 1e-12  # the least that a row's largest d² is taken for


@njit(nogil=True, cache=True)
def relative(score: float, farthest: float) -> float:
    """d² of two unit vectors, given their dot product, over the row's largest. Rounding can leave copies a d² below 0."""
    return max(2.0 - 2.0 * score, 0.0) / max(farthest, TINY)


@njit(nogil=True, cache=True)
def order(unit_ND: NDArray[np.float32], i: int, others: NDArray[np.int64], kept: int) -> tuple[NDArray[np.int64], float]:
    """The `kept` of the others (ascending) that are nearest to image i, ties by index, and the score of the last."""
    scores = np.empty(len(others), np.float64)
    for at in range(len(others)):
        scores[at] = dot(unit_ND[i], unit_ND[others[at]])
    first = np.argsort(-scores, kind="mergesort")[:kept]
    return others[first], scores[first[-1]]


@njit(nogil=True, cache=True)
def neighbours(
    cosines_BN: NDArray[np.float32],
    candidates_BW: NDArray[np.int64],
    first: int,
    begin: int,
    end: int,
    error: float,
    unit_ND: NDArray[np.float32],
    near_NK: NDArray[np.int32],
    farthest_N: NDArray[np.float64],
) -> None:
    """Fills the lists and the largest d² of images first + begin … first + end, whose float32 products are rows of cosines_BN.

    candidates_BW: other images with the largest products, ascending. Where others might be nearer, all that might are ranked.
    """
    kept = near_NK.shape[1] - 1
    for b in range(begin, end):
        i, row_N, candidates_W = first + b, cosines_BN[b], candidates_BW[b]
        least, worst = np.float32(np.inf), np.float32(np.inf)
        for j in range(len(row_N)):
            least = min(least, row_N[j] if j != i else least)
        for j in candidates_W:
            worst = min(worst, row_N[j])
        lowest = dot(unit_ND[i], unit_ND[i])
        for j in range(len(row_N)):
            if row_N[j] <= least + 2.0 * error and j != i:
                lowest = min(lowest, dot(unit_ND[i], unit_ND[j]))
        farthest_N[i] = 2.0 - 2.0 * lowest
        nearest, last = order(unit_ND, i, candidates_W, kept)
        if len(candidates_W) < len(row_N) - 1 and worst + error >= last:
            perhaps = np.flatnonzero(row_N >= last - error)
            nearest, last = order(unit_ND, i, perhaps, kept)
        near_NK[i, 0] = i
        near_NK[i, 1:] = nearest


@njit(nogil=True, cache=True)
def weights(
    begin: int,
    end: int,
    unit_ND: NDArray[np.float32],
    farthest_N: NDArray[np.float64],
    offsets: NDArray[np.int64],
    members_T: NDArray[np.int32],
    values_T: NDArray[np.float64],
) -> None:
    """V of rows begin:end (Eq. 7): exp(−d²/largest) over the members of R*, divided by the row's sum."""
    for i in range(begin, end):
        total = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            values_T[e] = decay(relative(dot(unit_ND[i], unit_ND[members_T[e]]), farthest_N[i]))
            total += values_T[e]
        for e in range(offsets[i], offsets[i + 1]):
            values_T[e] /= total


@njit(nogil=True, cache=True)
def ranks(
    cosines_BG: NDArray[np.float32],
    first: int,
    begin: int,
    end: int,
    lambda_value: float,
    error: float,
    unit_ND: NDArray[np.float32],
    farthest_N: NDArray[np.float64],
    v: tuple,
    same_offsets: NDArray[np.int64],
    same: NDArray[np.int64],
    offsets: NDArray[np.int64],
    positives: NDArray[np.int64],
    ranks_T: NDArray[np.int64],
) -> None:
    """Fills ranks_T, ascending within a query, for rows begin:end of the block that starts with query `first`.

    v: the queries' rows of V and the gallery's columns (`distreid.retrieval.jaccard.by_row_and_column`).
    """
    gallery = cosines_BG.shape[1]
    queries = len(unit_ND) - gallery
    about_G, jaccard_G = np.empty(gallery, np.float64), np.empty(gallery, np.float64)
    touched_G = np.empty(gallery + 1, np.int32)
    for b in range(begin, end):
        q = first + b
        own = positives[offsets[q] : offsets[q + 1]]
        if len(own) == 0:
            continue
        farthest = farthest_N[q]
        slack = lambda_value * 2.0 * error / max(farthest, TINY) * (1.0 + 1e-9) + 1e-12
        jaccard_G[:] = 0.0
        overlaps(q, False, v, jaccard_G, touched_G)
        for g in range(gallery):
            # Rows of V sum to 1, so the union is 2 - shared.
            jaccard_G[g] = (1.0 - lambda_value) * (1.0 - jaccard_G[g] / (2.0 - jaccard_G[g]))
            about_G[g] = lambda_value * relative(np.float64(cosines_BG[b, g]), farthest) + jaccard_G[g]
        found = np.empty(len(own), np.float64)
        for j in range(len(own)):
            found[j] = lambda_value * relative(dot(unit_ND[q], unit_ND[queries + own[j]]), farthest) + jaccard_G[own[j]]
        about_G[same[same_offsets[q] : same_offsets[q + 1]]] = np.inf
        known_G = np.empty(0, np.float64)  # exact distances, made when the first undecided entry turns up
        for place, j in enumerate(np.argsort(found, kind="mergesort")):
            low, high = found[j] - slack, found[j] + slack
            surely, perhaps = 0, 0
            for g in range(gallery):
                surely += about_G[g] < low
                perhaps += about_G[g] <= high
            if perhaps > surely:
                if len(known_G) == 0:
                    known_G = np.full(gallery, np.nan)
                for g in range(gallery):
                    if about_G[g] < low or about_G[g] > high:
                        continue
                    if np.isnan(known_G[g]):
                        known_G[g] = lambda_value * relative(dot(unit_ND[q], unit_ND[queries + g]), farthest) + jaccard_G[g]
                    surely += known_G[g] < found[j] or (known_G[g] == found[j] and g < own[j])
            ranks_T[offsets[q] + place] = 1 + place + surely

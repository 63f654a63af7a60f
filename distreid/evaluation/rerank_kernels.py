"""The compiled loop behind `rerank`."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from distreid.retrieval.jaccard import overlaps


@njit(nogil=True, cache=True)
def rank_jaccard(
    cosines_BG: NDArray[np.float32],
    first: int,
    begin: int,
    end: int,
    lambda_value: float,
    farthest_Q: NDArray[np.float64],
    v: tuple,
    same_offsets: NDArray[np.int64],
    same: NDArray[np.int64],
    offsets: NDArray[np.int64],
    positives: NDArray[np.int64],
    ranks: NDArray[np.int64],
) -> None:
    """Fills `ranks`, ascending within a query, for rows begin:end of the block that starts with query `first`.

    v: the queries' rows of V and the gallery's columns (`distreid.retrieval.jaccard.by_row_and_column`).
    """
    distance_G = np.empty(cosines_BG.shape[1], np.float64)
    touched_G = np.empty(len(distance_G) + 1, np.int32)
    for b in range(begin, end):
        q = first + b
        own = positives[offsets[q] : offsets[q + 1]]
        if len(own) == 0:
            continue
        shared_G = np.zeros(len(distance_G), np.float64)
        overlaps(q, False, v, shared_G, touched_G)
        for g in range(len(distance_G)):
            jaccard = 1 - shared_G[g] / (2 - shared_G[g])  # rows of V sum to 1, so the union is 2 - shared
            squared = (2 - 2 * np.float64(cosines_BG[b, g])) / farthest_Q[q]
            distance_G[g] = lambda_value * squared + (1 - lambda_value) * jaccard
        found = distance_G[own]
        distance_G[same[same_offsets[q] : same_offsets[q + 1]]] = np.inf
        for place, j in enumerate(np.argsort(found, kind="mergesort")):
            before = 0
            for g in range(len(distance_G)):
                before += (distance_G[g] < found[j]) | ((distance_G[g] == found[j]) & (g < own[j]))
            ranks[offsets[q] + place] = 1 + place + before

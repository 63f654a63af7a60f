"""Compiled loops behind `rerank`."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def _reciprocal(near_NK: NDArray[np.int64], i: int, size: int, found: NDArray[np.int64]) -> int:
    """Writes the j among i's first `size` neighbours that have i among theirs; returns how many there are."""
    count = 0
    for j in near_NK[i, :size]:
        for back in near_NK[j, :size]:
            if back == i:
                found[count] = j
                count += 1
                break
    return count


@njit(nogil=True, cache=True)
def expanded_sets(near_NK: NDArray[np.int64], half: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """R*(i) of every image (Eq. 5): offsets [N + 1] and the members, ascending within an image.

    near_NK: neighbours, the image itself among them, nearest first; `half` of them make the half sets.
    """
    images, size = near_NK.shape
    offsets = np.zeros(images + 1, np.int64)
    members = np.empty(images * size, np.int64)
    core, other = np.empty(size, np.int64), np.empty(half, np.int64)
    in_core, in_star = np.full(images, -1, np.int64), np.full(images, -1, np.int64)  # the image last marked for
    star = np.empty(size * (half + 1), np.int64)
    for i in range(images):
        count = _reciprocal(near_NK, i, size, core)
        for j in core[:count]:
            in_core[j] = in_star[j] = i
        star[:count] = core[:count]
        total = count
        for candidate in core[:count]:
            found = _reciprocal(near_NK, candidate, half, other)
            shared = 0
            for j in other[:found]:
                shared += in_core[j] == i
            if 3 * shared > 2 * found:
                for j in other[:found]:
                    if in_star[j] != i:
                        in_star[j] = i
                        star[total] = j
                        total += 1
        offsets[i + 1] = offsets[i] + total
        if offsets[i + 1] > len(members):
            grown = np.empty(2 * len(members) + total, np.int64)
            grown[: offsets[i]] = members[: offsets[i]]
            members = grown
        members[offsets[i] : offsets[i + 1]] = np.sort(star[:total])
    return offsets, members[: offsets[images]].copy()


@njit(nogil=True, cache=True)
def rank_jaccard(
    cosines_BG: NDArray[np.float32],
    first: int,
    begin: int,
    end: int,
    lambda_value: float,
    farthest_Q: NDArray[np.float64],
    row_offsets: NDArray[np.int32],
    row_columns: NDArray[np.int32],
    row_weights: NDArray[np.float64],
    column_offsets: NDArray[np.int32],
    column_rows: NDArray[np.int32],
    column_weights: NDArray[np.float64],
    same_offsets: NDArray[np.int64],
    same: NDArray[np.int64],
    offsets: NDArray[np.int64],
    positives: NDArray[np.int64],
    ranks: NDArray[np.int64],
) -> None:
    """Fills `ranks`, ascending within a query, for rows begin:end of the block that starts with query `first`.

    row_*: the queries' weights V as CSR; column_*: the gallery's as CSC over the same images.
    """
    distance_G = np.empty(cosines_BG.shape[1], np.float64)
    for b in range(begin, end):
        q = first + b
        own = positives[offsets[q] : offsets[q + 1]]
        if len(own) == 0:
            continue
        shared_G = np.zeros(len(distance_G), np.float64)
        for entry in range(row_offsets[q], row_offsets[q + 1]):
            h, weight = row_columns[entry], row_weights[entry]
            for at in range(column_offsets[h], column_offsets[h + 1]):
                shared_G[column_rows[at]] += min(weight, column_weights[at])
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

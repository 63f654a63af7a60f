"""Compiled parts of the sparse Jaccard graph: the overlap m of one row of V with all others, by way of the columns of V.

The tuple `v` is V by row and by column: (indptr, indices, data, column starts, column rows, column values, place of each row-wise
entry in its column). Rows ascend within a column, so what follows a row's own place are the rows after it.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def transpose(num_columns: int, indptr: NDArray, indices: NDArray, data: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """The same entries by column: (starts, rows, values, place of each row-wise entry)."""
    starts = np.zeros(num_columns + 1, np.int64)
    for e in range(indices.shape[0]):
        starts[indices[e] + 1] += 1
    for c in range(num_columns):
        starts[c + 1] += starts[c]
    fill = starts[:-1].copy()
    rows = np.empty(indices.shape[0], np.int32)
    values = np.empty(indices.shape[0], np.float64)
    places = np.empty(indices.shape[0], np.int64)
    for row in range(indptr.shape[0] - 1):
        for e in range(indptr[row], indptr[row + 1]):
            place = fill[indices[e]]
            rows[place] = row
            values[place] = data[e]
            places[e] = place
            fill[indices[e]] += 1
    return starts, rows, values, places


@njit(cache=True, nogil=True)
def overlaps(u: int, after: bool, v: tuple, shared_U: NDArray, touched_U: NDArray) -> int:
    """Adds m(u, w) to the zeroed `shared_U[w]` for all rows w (or only those after u) that share a column with u; lists them in
    `touched_U`, returns how many. The order of summation is that of u's entries."""
    indptr, indices, data, starts, rows, values, places = v
    found = 0
    for e in range(indptr[u], indptr[u + 1]):
        mine = data[e]
        begin = places[e] + 1 if after else starts[indices[e]]
        for place in range(begin, starts[indices[e] + 1]):
            w = rows[place]
            before = shared_U[w]
            # Written always, counted when new: a branch here would be mispredicted half of the time.
            touched_U[found] = w
            found += before == 0.0
            shared_U[w] = before + min(mine, values[place])
    return found


@njit(cache=True, nogil=True)
def pair_block(
    start: int, stop: int, step: int, cutoff: float, noise: float, sizes_U: NDArray, v: tuple
) -> tuple[NDArray, NDArray, NDArray, int]:
    """J of the pairs u < w for u in start..stop by `step`: (pairs per row, w, J) of those with J ≤ cutoff, and how many pairs of
    points (copies counted) have J < 1."""
    count = sizes_U.shape[0]
    lengths = np.zeros((stop - start + step - 1) // step, np.int64)
    columns = np.empty(1 << 14, np.int32)
    values = np.empty(columns.shape[0], np.float64)
    shared_U = np.zeros(count, np.float64)
    touched_U = np.empty(count + 1, np.int32)
    # J ≤ cutoff means m ≥ least; a little less, and the exact test follows.
    least = 2.0 * (1.0 - cutoff) / (2.0 - cutoff) * (1.0 - 1e-12)
    total = 0
    at = 0
    for u in range(start, stop, step):
        found = overlaps(u, True, v, shared_U, touched_U)
        if at + found > columns.shape[0]:
            room = 2 * columns.shape[0] + found
            more_columns = np.empty(room, np.int32)
            more_values = np.empty(room, np.float64)
            more_columns[:at] = columns[:at]
            more_values[:at] = values[:at]
            columns = more_columns
            values = more_values
        begin = at
        for f in range(found):
            w = touched_U[f]
            shared = shared_U[w]
            shared_U[w] = 0.0
            total += sizes_U[u] * sizes_U[w]
            if shared < least:
                continue
            distance = 1.0 - shared / (2.0 - shared)
            if distance < noise:
                distance = 0.0
            if distance <= cutoff:
                columns[at] = w
                values[at] = distance
                at += 1
        lengths[(u - start) // step] = at - begin
    return lengths, columns[:at].copy(), values[:at].copy(), total


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

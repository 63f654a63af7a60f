"""Compiled parts of the neighbour search: collect candidates from low-precision distances, rank them by exact ones.

A *key* is the bit pattern of d̃²/2, the low-precision half squared distance, read as an integer: bfloat16 as int16, float32 as
int32. Patterns of non-negative floats sort like the floats; the few slightly negative ones sort below, as they should.

Each point (row of the tables below) has a list of candidates and a limit; a key above the limit cannot belong to one of its k
nearest points. Why that is safe: see `distreid.retrieval.neighbours.LowPrecision`. Limits are finite, so infinity marks pairs that
are never wanted.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from distreid.retrieval.distances import LANES, normalized_row, squared_distance

# A block is first looked at through the minima of small runs of entries: most runs hold nothing near enough. The k-th smallest of
# these minima also bounds the k-th smallest entry, so that the first block a point meets already sets a good limit.
RUN = 64
RUN_OF_ROWS = 16
STRIPE = 256  # columns looked at together: wide enough for whole cache lines, narrow enough for the cache


@njit(cache=True, nogil=True)
def key_value(key: int, shift: int) -> float:
    """The float32 whose bits are `key` << shift (16 for bfloat16, 0 for float32)."""
    bits = np.empty(1, np.int32)
    bits[0] = np.int32(key) << shift
    return np.float64(bits.view(np.float32)[0])


@njit(cache=True, nogil=True)
def limit_key(value: float, shift: int) -> int:
    """A key not below that of any number ≤ `value` (≥ 0)."""
    number = np.empty(1, np.float32)
    number[0] = value
    return (number.view(np.int32)[0] + 1) >> shift


@njit(cache=True, nogil=True)
def lower_limit(i: int, distance: float, limits_U: NDArray, bound: tuple) -> None:
    """Lower the limit of point i, whose k-th nearest point is known to lie within `distance`."""
    slack_U, noise_U, rounding, shift = bound
    reach = distance + slack_U[i]
    key = limit_key((0.5 * reach * reach + noise_U[i]) * (1.0 + rounding), shift)
    if key < limits_U[i]:
        limits_U[i] = key


@njit(cache=True, nogil=True)
def nearest_exact(
    i: int, k: int, table: tuple, bound: tuple, data: tuple, best_keys: NDArray, best_rows: NDArray, best_squared: NDArray
) -> None:
    """The k nearest of point i's k or more candidates, by (exact d², index). Candidates are taken by ascending key: once k exact
    distances are known they bound the rest twice as tightly as keys could, and most of the rest is never computed."""
    keys_UC, rows_UC, counts_U, limits_U = table
    x_ND, inverse_norms_N, first_U = data
    unit_D = np.empty(x_ND.shape[1], np.float64)
    lanes = np.zeros(LANES)
    normalized_row(x_ND[first_U[i]], inverse_norms_N[first_U[i]], unit_D)
    filled = 0
    for c in np.argsort(keys_UC[i, : counts_U[i]]):
        if keys_UC[i, c] > limits_U[i]:
            break
        row = rows_UC[i, c]
        squared = squared_distance(unit_D, x_ND[first_U[row]], inverse_norms_N[first_U[row]], lanes)
        last = k - 1
        if filled == k and (squared > best_squared[last] or (squared == best_squared[last] and row > best_rows[last])):
            continue
        at = min(filled, last)
        filled = min(filled + 1, k)
        while at > 0 and (best_squared[at - 1] > squared or (best_squared[at - 1] == squared and best_rows[at - 1] > row)):
            best_squared[at] = best_squared[at - 1]
            best_rows[at] = best_rows[at - 1]
            best_keys[at] = best_keys[at - 1]
            at -= 1
        best_squared[at] = squared
        best_rows[at] = row
        best_keys[at] = keys_UC[i, c]
        if filled == k:
            lower_limit(i, math.sqrt(best_squared[last]), limits_U, bound)


@njit(cache=True, nogil=True)
def kth_smallest(values: NDArray, k: int) -> int:
    """The k-th smallest of the values, which are reordered (Hoare's selection; np.partition is slow on lists this short)."""
    low, high = 0, values.shape[0] - 1
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if k - 1 <= right:
            high = right
        elif k - 1 >= left:
            low = left
        else:
            break
    return values[k - 1]


@njit(cache=True, nogil=True)
def lower_limit_to_kth(i: int, k: int, keys: NDArray, limits_U: NDArray, bound: tuple) -> None:
    """Lower the limit of point i, given keys (k or more) of different points."""
    slack_U, noise_U, rounding, shift = bound
    kth = key_value(kth_smallest(keys.copy(), k), shift)
    half_squared = max(kth, 0.0) / (1.0 - rounding) + noise_U[i]
    lower_limit(i, math.sqrt(2.0 * half_squared) + slack_U[i], limits_U, bound)


@njit(cache=True, nogil=True)
def compact(i: int, k: int, table: tuple, bound: tuple, data: tuple) -> None:
    """Make room in point i's list: drop what is above the limit of the k-th smallest key; if too much is left (many points too
    near to each other for the low precision), rank what there is exactly and keep the k nearest."""
    keys_UC, rows_UC, counts_U, limits_U = table
    capacity = keys_UC.shape[1]
    count = counts_U[i]
    if count < k:
        return
    lower_limit_to_kth(i, k, keys_UC[i, :count], limits_U, bound)
    kept = 0
    for c in range(count):
        if keys_UC[i, c] <= limits_U[i]:
            keys_UC[i, kept] = keys_UC[i, c]
            rows_UC[i, kept] = rows_UC[i, c]
            kept += 1
    counts_U[i] = kept
    if kept <= capacity - capacity // 4:
        return
    best_keys = np.empty(k, keys_UC.dtype)
    best_rows = np.empty(k, np.int32)
    best_squared = np.empty(k, np.float64)
    nearest_exact(i, k, table, bound, data, best_keys, best_rows, best_squared)
    keys_UC[i, :k] = best_keys
    rows_UC[i, :k] = best_rows
    counts_U[i] = k


@njit(cache=True, nogil=True)
def push(i: int, key: int, row: int, k: int, table: tuple, bound: tuple, data: tuple) -> None:
    """Add a candidate to point i's list."""
    keys_UC, rows_UC, counts_U, limits_U = table
    if counts_U[i] == keys_UC.shape[1]:
        compact(i, k, table, bound, data)
        if key > limits_U[i]:
            return
    keys_UC[i, counts_U[i]] = key
    rows_UC[i, counts_U[i]] = row
    counts_U[i] += 1


@njit(cache=True, nogil=True)
def collect_rows(
    product_RC: NDArray, row0: int, col0: int, start: int, stop: int, k: int, table: tuple, bound: tuple, data: tuple
) -> None:
    """Offer every entry of rows start..stop of a block to its row's point. Entry (r, c) is between points row0+r and col0+c."""
    limits_U = table[3]
    width = product_RC.shape[1]
    runs = (width + RUN - 1) // RUN
    minima = np.empty(runs, product_RC.dtype)
    for r in range(start, stop):
        i = row0 + r
        limit = limits_U[i]
        near = 0
        for run in range(runs):
            low = product_RC[r, run * RUN]
            for c in range(run * RUN + 1, min((run + 1) * RUN, width)):
                low = min(low, product_RC[r, c])
            minima[run] = low
            near += low <= limit
        if near == 0:
            continue
        if near > k:
            lower_limit_to_kth(i, k, minima, limits_U, bound)
        for run in range(runs):
            if minima[run] > limits_U[i]:
                continue
            for c in range(run * RUN, min((run + 1) * RUN, width)):
                if product_RC[r, c] <= limits_U[i]:
                    push(i, product_RC[r, c], col0 + c, k, table, bound, data)


@njit(cache=True, nogil=True)
def collect_columns(
    product_RC: NDArray, row0: int, col0: int, start: int, stop: int, k: int, table: tuple, bound: tuple, data: tuple
) -> None:
    """The same block seen from its columns start..stop: the other half of the symmetric product, which is never computed."""
    keys_UC, _, counts_U, limits_U = table
    height = product_RC.shape[0]
    runs = (height + RUN_OF_ROWS - 1) // RUN_OF_ROWS
    minima = np.empty((runs, STRIPE), product_RC.dtype)
    near = np.empty(STRIPE, np.int16)
    for at in range(start, stop, STRIPE):
        width = min(STRIPE, stop - at)
        limits = limits_U[col0 + at : col0 + at + width]
        near[:] = 0
        for run in range(runs):
            lows = minima[run]
            lows[:width] = product_RC[run * RUN_OF_ROWS, at : at + width]
            for r in range(run * RUN_OF_ROWS + 1, min((run + 1) * RUN_OF_ROWS, height)):
                for c in range(width):
                    lows[c] = min(lows[c], product_RC[r, at + c])
            for c in range(width):
                near[c] += lows[c] <= limits[c]
        for c in range(width):
            if near[c] == 0:
                continue
            j = col0 + at + c
            if near[c] > k:
                lower_limit_to_kth(j, k, minima[:, c], limits_U, bound)
            held = counts_U[j]
            for run in range(runs):
                if minima[run, c] > limits[c]:
                    continue
                for r in range(run * RUN_OF_ROWS, min((run + 1) * RUN_OF_ROWS, height)):
                    if product_RC[r, at + c] <= limits[c]:
                        push(j, product_RC[r, at + c], row0 + r, k, table, bound, data)
            if counts_U[j] > max(held, k) + k // 2:
                lower_limit_to_kth(j, k, keys_UC[j, : counts_U[j]], limits_U, bound)


@njit(cache=True, nogil=True)
def rank(start: int, stop: int, k: int, table: tuple, bound: tuple, data: tuple, rows_Uk: NDArray, squared_Uk: NDArray) -> None:
    """Final lists of points start..stop: the k nearest by (exact d², index); places without a candidate are left as they are."""
    scratch = np.empty(k, table[0].dtype)
    for i in range(start, stop):
        nearest_exact(i, k, table, bound, data, scratch, rows_Uk[i], squared_Uk[i])


@njit(cache=True, nogil=True)
def spread_groups(
    start: int,
    stop: int,
    groups_Uk: NDArray,
    squared_Ug: NDArray,
    members_N: NDArray,
    offsets_U1: NDArray,
    rows_Uk: NDArray,
    squared_Uk: NDArray,
) -> None:
    """Nearest groups of copies to nearest rows: each group stands for all its rows, ordered by (d², row), the first k kept."""
    k = rows_Uk.shape[1]
    for u in range(start, stop):
        rows, distances = rows_Uk[u], squared_Uk[u]
        filled = 0
        for g in range(groups_Uk.shape[1]):
            if groups_Uk[u, g] < 0:
                break
            squared = squared_Ug[u, g]
            begin, end = offsets_U1[groups_Uk[u, g]], offsets_U1[groups_Uk[u, g] + 1]
            for row in members_N[begin : min(end, begin + k)]:
                if filled == k and (squared > distances[k - 1] or (squared == distances[k - 1] and row > rows[k - 1])):
                    break
                at = min(filled, k - 1)
                filled = min(filled + 1, k)
                while at > 0 and distances[at - 1] == squared and rows[at - 1] > row:
                    rows[at], distances[at] = rows[at - 1], distances[at - 1]
                    at -= 1
                rows[at], distances[at] = row, squared

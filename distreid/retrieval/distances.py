"""The one definition of distance: float64, fixed order of summation, so that every machine and engine ranks alike.

f̂ = f · (1 / ‖f‖) in float64 and d² = Σ (f̂_i − f̂_j)². The difference form gives exactly 0 for duplicates and exactly equal
distances to and from them; 32 running sums keep the order fixed and let the compiler use vectors without reordering.

After a change here, delete the `__pycache__` of this folder: numba's cache does not see that functions of other files call these.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

LANES = 32
HASH_LANES = 8
SEED = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True)
def normalized_row(x_D: NDArray, inverse_norm: float, out_D: NDArray) -> None:
    """f̂ of one row."""
    for k in range(x_D.shape[0]):
        out_D[k] = x_D[k] * inverse_norm


@njit(cache=True, nogil=True)
def fold(lanes: NDArray) -> float:
    """Sum of the running sums, halves onto halves; clears them."""
    width = LANES // 2
    while width:
        for k in range(width):
            lanes[k] += lanes[k + width]
        width //= 2
    total = lanes[0]
    lanes[:] = 0.0
    return total


@njit(cache=True, nogil=True)
def squared_distance(unit_D: NDArray, x_D: NDArray, inverse_norm: float, lanes: NDArray) -> float:
    """d² between a normalised row and a raw one; `lanes` is a zeroed scratch of LANES float64."""
    dim = unit_D.shape[0]
    whole = dim - dim % LANES
    for start in range(0, whole, LANES):
        for k in range(LANES):
            difference = unit_D[start + k] - x_D[start + k] * inverse_norm
            lanes[k] += difference * difference
    for k in range(whole, dim):
        difference = unit_D[k] - x_D[k] * inverse_norm
        lanes[k - whole] += difference * difference
    return fold(lanes)


@njit(cache=True, nogil=True)
def squared_norms(x_ND: NDArray, start: int, stop: int, out_N: NDArray) -> None:
    """‖f‖² of rows start..stop in float64; nan or inf where a row holds one."""
    lanes = np.zeros(LANES)
    dim = x_ND.shape[1]
    whole = dim - dim % LANES
    for i in range(start, stop):
        for at in range(0, whole, LANES):
            for k in range(LANES):
                value = np.float64(x_ND[i, at + k])
                lanes[k] += value * value
        for k in range(whole, dim):
            value = np.float64(x_ND[i, k])
            lanes[k - whole] += value * value
        out_N[i] = fold(lanes)


@njit(cache=True, nogil=True)
def row_hashes(x_ND: NDArray, inverse_norms_N: NDArray, start: int, stop: int, out_N: NDArray) -> None:
    """A 64-bit hash of every normalised row: equal rows have equal hashes (−0 and 0 are equal)."""
    dim = x_ND.shape[1]
    row = np.empty(dim, np.float64)
    bits = row.view(np.uint64)
    whole = dim - dim % HASH_LANES
    # Several running hashes: each step of one waits for the step before.
    states = np.empty(HASH_LANES, np.uint64)
    for i in range(start, stop):
        for k in range(dim):
            row[k] = x_ND[i, k] * inverse_norms_N[i] + 0.0
        for lane in range(HASH_LANES):
            states[lane] = SEED
        for at in range(0, whole, HASH_LANES):
            for lane in range(HASH_LANES):
                states[lane] = mixed(states[lane], bits[at + lane])
        state = SEED
        for k in range(whole, dim):
            state = mixed(state, bits[k])
        for lane in range(HASH_LANES):
            state = mixed(state, states[lane])
        out_N[i] = state


@njit(cache=True, nogil=True)
def mixed(state: np.uint64, bits: np.uint64) -> np.uint64:
    """A hash with 64 bits more."""
    state = (state ^ bits) * np.uint64(0xBF58476D1CE4E5B9)
    return state ^ (state >> np.uint64(29))


@njit(cache=True, nogil=True)
def identical(x_ND: NDArray, inverse_norms_N: NDArray, i: int, j: int) -> bool:
    """Whether two rows are the same after normalisation (−0 and 0 are)."""
    dim = x_ND.shape[1]
    for at in range(0, dim, 256):
        different = 0
        for k in range(at, min(at + 256, dim)):
            different += x_ND[i, k] * inverse_norms_N[i] != x_ND[j, k] * inverse_norms_N[j]
        if different:
            return False
    return True


@njit(cache=True, nogil=True)
def first_copies(x_ND: NDArray, inverse_norms_N: NDArray, hashes_N: NDArray, order_N: NDArray, first_N: NDArray) -> None:
    """For each row the first row that is identical after normalisation, into first_N: 0, 1, 2, … on entry. order_N: the rows by
    hash, ascending where hashes are equal."""
    start = 0  # of the run of equal hashes
    for at in range(1, order_N.shape[0]):
        row = order_N[at]
        if hashes_N[row] != hashes_N[order_N[start]]:
            start = at
        # A run holds copies of its first row; should different rows collide, each that stands for itself so far is tried.
        for before in range(start, at):
            other = order_N[before]
            if first_N[other] == other and identical(x_ND, inverse_norms_N, row, other):
                first_N[row] = other
                break

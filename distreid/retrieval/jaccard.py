"""Sparse Jaccard distances: J(i, j) = 1 − m / (2 − m) with m = Σ_g min(V_ig, V_jg), of all pairs with J < 1 or of the near ones.

Rows of V sum to 1, hence the form. Two rows overlap by way of V's columns, so the pairs that share none, the most by far, are
never looked at; J is 1 for them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from distreid.common.errors import UserError
from distreid.retrieval.blocks import map_blocks
from distreid.retrieval.reciprocal import ROWS, Csr, stack

# Smaller distances are what float64 leaves of a zero; they become an exact zero, so that identical points stay within eps = 0.
ROUNDING_NOISE = 1e-12
# Pairs that may be held per point, at 12 bytes each. Ordinary features have 50 to 1,000 with J < 1.
MAX_PAIRS_PER_POINT = 4000
PIECE = 1 << 21  # pairs after which a compiled loop hands over what it has: each thread holds no more than this beside the graph

Piece = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]  # (pairs of each row, w, J)


@dataclass(frozen=True)
class Weights:
    """V of U points (one row for each group of copies), by row and by column, as the kernels want it. sizes_U: copies, int64."""

    v: tuple[NDArray, ...]
    sizes_U: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Csr, num_columns: int, sizes_U: NDArray[np.int64]) -> "Weights":
        """V, [U, num_columns], given by row."""
        return cls(by_row_and_column(rows, rows, num_columns), sizes_U)


@dataclass(frozen=True)
class Pairs:
    """J of pairs u < w with J ≤ cutoff, at row u. `total`: pairs of points with J < 1 (between groups, copies counted); `near`:
    those of them that are held, and the pairs of copies."""

    graph: Csr
    cutoff: float
    total: int
    near: int

    @property
    def held(self) -> int:
        """Entries in memory."""
        return len(self.graph.data)

    def within(self, eps: float) -> "Pairs":
        """The pairs with J ≤ eps alone (`total` and `near` stay those of the whole)."""
        kept = self.graph.data <= eps
        starts = np.concatenate([[0], np.cumsum(kept)])
        graph = Csr(starts[self.graph.indptr], self.graph.indices[kept], self.graph.data[kept])
        return Pairs(graph, self.cutoff, self.total, self.near)


def check_linear(held: int, count: int) -> None:
    """UserError when the pairs held are too many to be linear in the points."""
    limit = MAX_PAIRS_PER_POINT * count
    if held > limit:
        raise UserError(
            f"more than {limit:,} pairs of {count:,} points share neighbours: the features are nearly collapsed; "
            "use smaller k1 and k2, a smaller p, or check the network"
        )


def pairs_within(weights: Weights, cutoff: float, threads: int) -> Pairs:
    """All pairs with J ≤ cutoff (1: all with J < 1). UserError when they would not stay linear in the points; they are counted as
    they are found, so that memory stays linear on the way there too."""
    count = len(weights.sizes_U)
    held = total = 0
    lock = Lock()

    def block(start: int, stop: int) -> list[Piece]:
        nonlocal held, total
        pieces = []
        for piece, stored in _pieces(weights, start, stop, 1, cutoff):
            with lock:
                held, total = held + len(piece[1]), total + stored
                check_linear(held, count)
            pieces.append(piece)
        return pieces

    graph = stack(piece for pieces in map_blocks(block, count, ROWS, threads) for piece in pieces)
    zeros = zero_pairs(weights.sizes_U)
    near = int(copies_of(graph, weights.sizes_U).sum()) + zeros if zeros else len(graph.data)
    return Pairs(graph, cutoff, total, near)


def sample_distances(weights: Weights, step: int) -> Iterator[NDArray[np.float64]]:
    """J < 1 of the pairs u < w of every `step`-th point u, a piece at a time: all of them may be far more than memory holds."""
    for (_, _, distances), _ in _pieces(weights, 0, len(weights.sizes_U), step, 1.0):
        yield distances


def _pieces(weights: Weights, start: int, stop: int, step: int, cutoff: float) -> Iterator[tuple[Piece, int]]:
    """The pairs of rows start..stop by `step` and how many pairs of points have J < 1, in pieces of about PIECE pairs at most."""
    while start < stop:
        block = _pair_block(start, stop, step, cutoff, PIECE, ROUNDING_NOISE, weights.sizes_U, weights.v)
        lengths, columns, distances, stored, start = block
        yield (lengths, columns, distances), stored


def copies_of(graph: Csr, sizes_U: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs of points behind each pair of groups."""
    return np.repeat(sizes_U, np.diff(graph.indptr)) * sizes_U[graph.indices]


def zero_pairs(sizes_U: NDArray[np.int64]) -> int:
    """Pairs of copies."""
    return int((sizes_U * (sizes_U - 1) // 2).sum())


def symmetric(graph: Csr) -> csr_matrix:
    """Both halves and a diagonal of explicit zeros, indices sorted."""
    count = len(graph.indptr) - 1
    rows = np.repeat(np.arange(count, dtype=np.int32), np.diff(graph.indptr))
    diagonal = np.arange(count, dtype=np.int32)
    entries = np.concatenate([graph.data, graph.data, np.zeros(count)])
    places = np.concatenate([rows, graph.indices, diagonal]), np.concatenate([graph.indices, rows, diagonal])
    both = csr_matrix((entries, places), shape=(count, count))
    both.sort_indices()
    return both


def by_row_and_column(rows: Csr, others: Csr, num_columns: int) -> tuple[NDArray, ...]:
    """`v` of the kernels: (indptr, indices, data, column starts, column rows, column values, place of each entry of `others` in its
    column). `rows` are compared with `others`; rows ascend within a column, so what follows a row's own place, where the two are
    the same, are the rows after it."""
    return (rows.indptr, rows.indices, rows.data, *_transpose(num_columns, others.indptr, others.indices, others.data))


@njit(cache=True, nogil=True)
def _transpose(num_columns: int, indptr: NDArray, indices: NDArray, data: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
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
def _pair_block(
    start: int, stop: int, step: int, cutoff: float, most: int, noise: float, sizes_U: NDArray, v: tuple
) -> tuple[NDArray, NDArray, NDArray, int, int]:
    """J of the pairs u < w for u from `start` by `step`, until `stop` or more than `most` are found: (pairs per row, w, J) of those
    with J ≤ cutoff, how many pairs of points (copies counted) have J < 1, and the row to go on with."""
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
    done = 0
    u = start
    while u < stop and at <= most:
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
        lengths[done] = at - begin
        done += 1
        u += step
    return lengths[:done].copy(), columns[:at].copy(), values[:at].copy(), total, u

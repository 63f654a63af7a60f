"""Launches of the kernels that labels and re-ranking share: distances, reciprocal sets, query expansion, V by column.

Every array has the bits that `distreid.retrieval.reciprocal` and `distreid.retrieval.jaccard` give on a CPU. Call within the
backend's scope; arrays are the backend's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from distreid.retrieval.gpu.backend import Backend

INTS = 4  # bytes of one in shared memory
MOST_BLOCKS = 4096  # of a launch whose blocks take rows in turn: a few for each multiprocessor of the largest card
NOT_REACHED = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Rows:
    """Rows of (column, value): offsets int64 [R + 1], columns int32 in the order in which they were found, values float64."""

    offsets: Any
    columns: Any
    values: Any


@dataclass(frozen=True)
class Given:
    """What sets are made of. near_Nk: int32 lists [U, k], nearest first; group_N: int32, whose list is each point's; x_ND:
    features. squared_Uk, inverse_norms_N: d² of the lists and 1/‖f‖, float64, where weights are wanted too."""

    near_Uk: Any
    group_N: Any
    half: int
    x_ND: Any
    squared_Uk: Any = None
    inverse_norms_N: Any = None


def run(backend: Backend, name: str, blocks: int, *arguments: Any, ints: int = 0, dtype: Any = np.float32) -> None:
    """ints: of shared memory, beside one for each warp."""
    shared = INTS * (ints + backend.threads // 32) if ints else 0
    backend.kernels(dtype)(name, blocks, backend.threads, *arguments, shared=shared)


def blocks_for(backend: Backend, rows: int, numbers: int) -> int:
    """Blocks that take `rows` in turn, each with a float64 and an int32 scratch of so many numbers."""
    room = min(backend.scratch_bytes, backend.free_bytes() // 4)
    return max(1, min(rows, MOST_BLOCKS, room // (12 * max(numbers, 1))))


def scratch(backend: Backend, blocks: int, numbers: int) -> tuple[Any, Any]:
    """Zeros to sum in, and room for a list, of each block."""
    xp = backend.xp
    return xp.zeros((blocks, numbers), np.float64), xp.empty((blocks, numbers), np.int32)


def offsets_of(backend: Backend, lengths: Any) -> Any:
    """Where each of consecutive lists begins, and the end."""
    xp = backend.xp
    return xp.concatenate([xp.zeros(1, np.int64), xp.cumsum(lengths, dtype=np.int64)])


def distances(backend: Backend, x_ND: Any, inverse_norms_N: Any, i_E: Any, j_E: Any) -> Any:
    """d² of pairs of rows (int32), float64 [E], as `distreid.retrieval.distances`."""
    squared_E = backend.xp.empty(len(i_E), np.float64)
    blocks = -(-len(i_E) // (backend.threads // 32))  # a warp for each pair
    run(backend, "distances", blocks, len(i_E), x_ND.shape[1], x_ND, inverse_norms_N, i_E, j_E, squared_E, dtype=x_ND.dtype)
    return squared_E


def reciprocal_rows(backend: Backend, given: Given, *, weights: bool) -> Rows:
    """R* of every point; weights: also its softmax of −d² as values, which are else not written."""
    xp, (count, dim), k, half = backend.xp, given.x_ND.shape, given.near_Uk.shape[1], given.half
    flags_Nk = xp.empty((count, k), np.uint8)
    run(backend, "reciprocity", -(-count * k // backend.threads), count, k, half, given.near_Uk, given.group_N, flags_Nk)
    numbers, lengths_N = 2 * k + k * half, xp.empty(count, np.int32)
    blocks = blocks_for(backend, count, numbers + count)
    lists = given.near_Uk, given.squared_Uk, given.group_N, flags_Nk, given.x_ND, given.inverse_norms_N
    known = (count, k, half, dim, *lists, xp.empty((blocks, numbers), np.int32), xp.full((blocks, count), NOT_REACHED, np.int32))
    run(backend, "reciprocal_weights", blocks, *known, 0, None, lengths_N, None, None, ints=2, dtype=given.x_ND.dtype)
    offsets = offsets_of(backend, lengths_N)
    entries = int(offsets[-1])
    v = Rows(offsets, xp.empty(entries, np.int32), xp.empty(entries, np.float64))
    filled = 1, offsets, lengths_N, v.columns, v.values if weights else None
    run(backend, "reciprocal_weights", blocks, *known, *filled, ints=2, dtype=given.x_ND.dtype)
    return v


def expand_queries(backend: Backend, v: Rows, nearest_Uq: Any) -> tuple[Rows, Any]:
    """V after the query expansion over int32 rows [U, q], and the row of each of its entries."""
    xp, (rows, q), count = backend.xp, nearest_Uq.shape, len(v.offsets) - 1
    blocks, lengths_U = blocks_for(backend, rows, count), xp.empty(rows, np.int32)
    known = (rows, q, count, nearest_Uq, v.offsets, v.columns, v.values, *scratch(backend, blocks, count))
    run(backend, "expand_queries", blocks, *known, 0, None, lengths_U, None, None, None, ints=1)
    offsets = offsets_of(backend, lengths_U)
    entries = int(offsets[-1])
    rows_E, columns_E, values_E = xp.empty(entries, np.int32), xp.empty(entries, np.int32), xp.empty(entries, np.float64)
    run(backend, "expand_queries", blocks, *known, 1, offsets, lengths_U, rows_E, columns_E, values_E, ints=1)
    return Rows(offsets, columns_E, values_E), rows_E


def by_column(backend: Backend, rows_E: Any, columns_E: Any, values_E: Any, count: int) -> tuple[Any, Any, Any, Any]:
    """Entries of ascending rows by column: (starts, rows, values, place of each entry), rows ascending within a column."""
    xp, entries = backend.xp, len(columns_E)
    order_E = xp.argsort(columns_E, kind="stable")
    place_E = xp.empty(entries, np.int64)
    place_E[order_E] = xp.arange(entries, dtype=np.int64)
    starts = xp.searchsorted(columns_E[order_E], xp.arange(count + 1, dtype=np.int32)).astype(np.int64)
    return starts, rows_E[order_E], values_E[order_E], place_E

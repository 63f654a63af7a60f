"""The pairs of points with J < 1: all of them as a graph, or only the nearest, which are all that eps and DBSCAN look at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from distreid.errors import UserError
from distreid.retrieval import jaccard_kernels as kernels
from distreid.retrieval.blocks import map_blocks
from distreid.retrieval.reciprocal import Csr, stack

# Smaller distances are what float64 leaves of a zero; they become an exact zero, so that identical points stay within eps = 0.
ROUNDING_NOISE = 1e-12
# Pairs that may be held per point, at 12 bytes each. Ordinary features have 50 to 1,000 with J < 1.
MAX_PAIRS_PER_POINT = 4000
ROWS = 512
# Share of the rows on which the distance of the nearest `asked` pairs is estimated.
SAMPLED = 32


@dataclass(frozen=True)
class Weights:
    """V of U points (one row for each group of copies), by row and by column, as the kernels want it. sizes_U: copies, int64."""

    v: tuple[NDArray, ...]
    sizes_U: NDArray[np.int64]

    @classmethod
    def of(cls, weights: Csr, num_columns: int, sizes_U: NDArray[np.int64]) -> "Weights":
        """V, [U, num_columns], given by row."""
        rows = (weights.indptr, weights.indices, weights.data)
        return cls(rows + kernels.transpose(num_columns, *rows), sizes_U)


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


class Near(Protocol):
    """What any engine's pairs can be asked."""

    @property
    def cutoff(self) -> float: ...
    @property
    def near(self) -> int: ...


NearPairs = TypeVar("NearPairs", bound=Near)


def enough_pairs(within: Callable[[float], NearPairs], sampled: NDArray[np.float64], asked: int) -> NearPairs:
    """At least the `asked` nearest pairs (with copies of points, which are at distance 0), or all with J < 1 if these are fewer.

    within: all pairs up to a cutoff. sampled: all distances from every SAMPLED-th point, which tell about how far to look; if that
    falls short, everything is taken. The result is exact either way.
    """
    # Half more than the estimate, and a few dozen for small samples.
    rank = int(1.5 * asked / SAMPLED) + 64
    pairs = within(float(np.partition(sampled, rank)[rank]) if rank < len(sampled) else 1.0)
    return within(1.0) if pairs.cutoff < 1 and pairs.near < asked else pairs


def check_linear(held: int, count: int) -> None:
    """UserError when the pairs held are too many to be linear in the points."""
    limit = MAX_PAIRS_PER_POINT * count
    if held > limit:
        raise UserError(
            f"more than {limit:,} pairs of {count:,} points share neighbours: the features are nearly collapsed; "
            "use smaller k1 and k2, a smaller p, or check the network"
        )


def pairs_within(weights: Weights, cutoff: float, threads: int) -> Pairs:
    """All pairs with J ≤ cutoff (1: all with J < 1). UserError when they would not stay linear in the points."""
    count = len(weights.sizes_U)
    kept = total = 0

    def pieces() -> Iterator[tuple[NDArray, NDArray, NDArray]]:
        nonlocal kept, total
        blocks = map_blocks(
            lambda start, stop: kernels.pair_block(start, stop, 1, cutoff, ROUNDING_NOISE, weights.sizes_U, weights.v),
            count,
            ROWS,
            threads,
        )
        for lengths, columns, values, stored in blocks:
            kept, total = kept + len(columns), total + stored
            check_linear(kept, count)
            yield lengths, columns, values

    graph = stack(pieces())
    zeros = zero_pairs(weights.sizes_U)
    near = int(copies_of(graph, weights.sizes_U).sum()) + zeros if zeros else len(graph.data)
    return Pairs(graph, cutoff, total, near)


def nearest_pairs(weights: Weights, asked: int, threads: int) -> Pairs:
    """At least the `asked` nearest pairs, see `enough_pairs`."""
    *_, sampled, _ = kernels.pair_block(0, len(weights.sizes_U), SAMPLED, 1.0, ROUNDING_NOISE, weights.sizes_U, weights.v)
    return enough_pairs(lambda cutoff: pairs_within(weights, cutoff, threads), sampled, asked)


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

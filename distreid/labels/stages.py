"""An engine: what is done between checked features and labels, with equal labels on each. `labels/cpu`: compiled loops;
`labels/gpu`: kernels by CuPy, the same bits; `labels/torch_engine`: plain torch, for GPUs without CuPy.

To add an engine, write a class with the methods of `Stages` (a handful of functions over its own arrays) and name it in
`distreid.labels.engines.stages_of`. What must not differ between engines is not theirs to decide: which lists of neighbours are
asked for (`distreid.retrieval.lists`), how far to look for pairs (`nearest_pairs`), how eps is summed (`mean_of_smallest`), on
which points the silhouette is taken (`distreid.labels.quality`), how clusters are numbered (see `Stages.dbscan`). Distances d²
are those of `distreid.retrieval.distances` to the last bit. An engine keeps its memory linear in the number of features and
raises the UserError of `distreid.retrieval.jaccard.check_linear` while it finds pairs, not afterwards.
"""

from collections.abc import Iterable
from decimal import ROUND_DOWN, Context, Decimal
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.retrieval import jaccard
from distreid.retrieval.lists import Lists, Neighbours
from distreid.retrieval.prepare import Prepared
from distreid.retrieval.reciprocal import Csr

# Every how many points one is a sample, on which the distance of the nearest pairs is estimated.
SAMPLED = 32


class NearPairs(Protocol):
    """J of pairs u < w of groups, as an engine holds them."""

    @property
    def cutoff(self) -> float:
        """All pairs with J ≤ cutoff are held."""
        ...

    @property
    def total(self) -> int:
        """Pairs of points with J < 1, held or not, copies counted; the pairs within a group are not among them."""
        ...

    @property
    def near(self) -> int:
        """Pairs of points with J ≤ cutoff: those behind the held pairs, and the pairs of copies."""
        ...

    @property
    def held(self) -> int:
        """Entries in memory."""
        ...

    @property
    def graph(self) -> Csr:
        """The held pairs as numpy's arrays: J of u < w at row u."""
        ...

    def within(self, eps: float) -> "NearPairs":
        """The pairs with J ≤ eps alone, for many `dbscan` at one eps."""
        ...


class Stages(Protocol):
    """Each method takes what the one before it returned; V, weights and pairs are the engine's own arrays.

    N: points, U: groups of copies (`Prepared`), K: clusters.
    """

    @property
    def device(self) -> torch.device:
        """Where it computes, as torch names it."""
        ...

    def search(self, prepared: Prepared, k: int, *, apart_U: NDArray[np.int64] | None = None) -> Neighbours:
        """Exact nearest rows by (float64 d², row): see `distreid.retrieval.lists.Search`."""
        ...

    def reciprocal(self, prepared: Prepared, lists: Lists) -> Any:
        """V [N, N], sparse: softmax of −d² over R* (`distreid.retrieval.reciprocal`)."""
        ...

    def rows(self, v: Any) -> Csr:
        """V as numpy's arrays."""
        ...

    def expand(self, v: Any, prepared: Prepared, lists: Lists) -> Any:
        """Weights [U, N]: V after the local query expansion over `lists.expansion_Uq`."""
        ...

    def sample_distances(self, weights: Any, step: int) -> Iterable[NDArray[np.float64]]:
        """J < 1 of the pairs u < w of every `step`-th group u, in pieces that fit in memory."""
        ...

    def pairs_within(self, weights: Any, cutoff: float) -> NearPairs:
        """J of all pairs u < w with J ≤ cutoff (1: all with J < 1); distances under ROUNDING_NOISE are 0."""
        ...

    def smallest(self, near: Any, sizes_U: NDArray[np.int64], count: int) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        """(J, pairs of points behind each or None when there are no copies) of at least the `count` nearest of the held pairs."""
        ...

    def dbscan(self, near: Any, sizes_U: NDArray[np.int64], eps: float, min_samples: int) -> NDArray[np.int64]:
        """Cluster of each group, −1 for outliers, as scikit-learn numbers and assigns them: clusters by their first core point, a
        border point to the first of its clusters."""
        ...

    def silhouettes(
        self, weights: Any, chosen_S: NDArray[np.int64], labels_U: NDArray[np.int64], sizes_K: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Silhouettes [S] of some clustered groups; sizes_K: points of each cluster (`distreid.labels.quality.silhouette`)."""
        ...

    def centers(self, prepared: Prepared, labels_N: NDArray[np.int64], normalized: bool) -> NDArray[np.float32]:
        """C_k: the mean of the (normalised or raw) features of cluster k, summed in float64: float32 [K, D]."""
        ...

    def peaks(self) -> dict[str, int]:
        """The most memory of a GPU that was held so far, in bytes, by who held it: cupy, rmm (cuML), torch; {} for a CPU."""
        ...

    def release(self) -> None:
        """Give back the memory that is kept between labellings: whoever made the engine calls it after each round."""
        ...


def members_of(labels_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(points by cluster, those without one first, where each cluster starts, and the end [K + 1])."""
    order_N = np.argsort(labels_N, kind="stable")
    return order_N, np.searchsorted(labels_N[order_N], np.arange(int(labels_N.max(initial=-1)) + 2))


def pairs_asked(p: float, count: int) -> int:
    """round(p · N(N−1)/2), at least one."""
    total = count * (count - 1) // 2
    asked = round(p * total)
    if asked < 1:
        raise UserError(f"p = {p} asks for none of the {total:,} pairs of {count} features: use p ≥ {1 / max(total, 1):.1e}")
    return asked


def nearest_pairs(stages: Stages, weights: Any, sizes_U: NDArray[np.int64], asked: int) -> NearPairs:
    """At least the `asked` nearest pairs (with copies of points, which are at distance 0), or all with J < 1 if these are fewer.

    A sample tells about how far to look; where that falls short, everything is taken. The result is exact either way.
    """
    cutoff = sampled_cutoff(stages.sample_distances(weights, SAMPLED), asked, len(sizes_U))
    pairs = stages.pairs_within(weights, cutoff)
    return stages.pairs_within(weights, 1.0) if pairs.cutoff < 1 and pairs.near < asked else pairs


def sampled_cutoff(pieces: Iterable[NDArray[np.float64]], asked: int, count: int) -> float:
    """A distance within which the `asked` nearest pairs of `count` points probably lie, from the distances of a sample.

    Of the sample only the smallest are kept, and never more than the whole may hold anyway: nearly collapsed features, of which
    all pairs share neighbours, end in the line of `check_linear` and not in a lack of memory.
    """
    # Half more than the estimate, and a few dozen for small samples.
    rank = min(int(1.5 * asked / SAMPLED) + 64, 2 * jaccard.MAX_PAIRS_PER_POINT * count // SAMPLED + 64)
    smallest = np.empty(0)
    for piece in pieces:
        smallest = np.concatenate([smallest, piece])
        if len(smallest) > 2 * (rank + 1):
            smallest = np.partition(smallest, rank)[: rank + 1]
    return float(np.partition(smallest, rank)[rank]) if rank < len(smallest) else 1.0


def eps_of(stages: Stages, near: NearPairs, sizes_U: NDArray[np.int64], asked: int) -> float:
    """eps: the mean of the `asked` smallest distances. UserError when fewer have J < 1: their mean would say nothing."""
    count, zeros = int(sizes_U.sum()), jaccard.zero_pairs(sizes_U)
    stored = near.total + zeros
    if asked > stored:
        largest = Context(prec=2, rounding=ROUND_DOWN).plus(Decimal(stored) / (count * (count - 1) // 2))
        raise UserError(
            f"p asks for the {asked:,} nearest pairs but only {stored:,} pairs share neighbours: use p ≤ {largest:.1e}, or give eps"
        )
    values, copies = stages.smallest(near, sizes_U, max(asked - zeros, 0))
    return mean_of_smallest(values, asked, copies, zeros)


def mean_of_smallest(values: NDArray[np.float64], asked: int, copies: NDArray[np.int64] | None, zeros: int) -> float:
    """Mean of the `asked` smallest of: `zeros` zeros, the `values` (each `copies` times), and ones without end.

    The same to the last bit however many larger values are given: they are summed in ascending order.
    """
    remaining = max(asked - zeros, 0)
    if copies is None:
        taken = min(remaining, len(values))
        total = float(np.sort(np.partition(values, taken - 1)[:taken]).sum()) if taken else 0.0
    else:
        order = np.argsort(values, kind="stable")
        upto = np.cumsum(copies[order])
        times = np.clip(remaining - (upto - copies[order]), 0, copies[order])
        used = np.count_nonzero(times)
        total, taken = float((values[order[:used]] * times[:used]).sum()), int(times.sum())
    return (total + (remaining - taken)) / asked

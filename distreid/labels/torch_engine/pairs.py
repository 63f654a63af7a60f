"""The sparse Jaccard graph on a device: overlaps of the rows of V by way of its columns, sorted and summed in chunks."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distreid.labels.pairs import ArrayPairs
from distreid.labels.torch_engine.jaccard import Sparse
from distreid.labels.torch_engine.tensors import BUDGET, offsets_of, ranges, segment_sums, sums_by_key
from distreid.retrieval.jaccard import ROUNDING_NOISE, check_linear

CHUNK = BUDGET // 4  # overlaps summed at once; a few int64 and float64 temporaries each


@dataclass(frozen=True)
class Weights:
    """V after the query expansion, [U, N], by row and by column. sizes_U: copies of each group, int64."""

    v: Sparse
    sizes_U: Tensor

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(column starts, rows, values, place of each row-wise entry in its column); rows ascend within a column."""
        columns_E, order_E = torch.sort(self.v.columns, stable=True)
        rows_E = torch.repeat_interleave(torch.arange(len(self.sizes_U), device=order_E.device), self.v.offsets.diff())
        place_E = torch.empty_like(order_E)
        place_E[order_E] = torch.arange(len(order_E), device=order_E.device)
        starts = offsets_of(torch.bincount(columns_E, minlength=int(self.v.columns.max()) + 1))
        return starts, rows_E[order_E], self.v.values[order_E], place_E


def overlaps(weights: Weights, rows_R: Tensor, *, after: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(r, w, m): overlap m = Σ_g min(V_ug, V_wg) of u = rows_R[r] with each w (or only those after u) that shares a column with u,
    ascending by (r, w), in chunks of whole r."""
    starts, rows_E, values_E, place_E = weights.by_column
    count, offsets = len(weights.sizes_U), weights.v.offsets
    first_E = place_E + 1 if after else starts[weights.v.columns]
    partners_E = starts[weights.v.columns + 1] - first_E
    lengths_R = offsets.diff()[rows_R]
    own_E = ranges(offsets[rows_R], lengths_R)
    work_R = segment_sums(partners_E[own_E].double(), lengths_R).cumsum(0).cpu().numpy()
    at = 0
    while at < len(rows_R):
        done = work_R[at - 1] if at else 0.0
        end = max(int(np.searchsorted(work_R, done + CHUNK, side="right")), at + 1)
        mine_E = ranges(offsets[rows_R[at:end]], lengths_R[at:end])
        r_E = torch.repeat_interleave(torch.arange(at, end, device=rows_R.device), lengths_R[at:end])
        with_E = partners_E[mine_E]
        theirs_P = ranges(first_E[mine_E], with_E)
        keys_P = torch.repeat_interleave(r_E, with_E) * count + rows_E[theirs_P]
        shared_P = torch.minimum(torch.repeat_interleave(weights.v.values[mine_E], with_E), values_E[theirs_P])
        keys_S, m_S = sums_by_key(keys_P, shared_P)
        yield keys_S // count, keys_S % count, m_S
        at = end


def jaccard_of(m_S: Tensor) -> Tensor:
    """J of an overlap; what float64 leaves of a zero becomes one."""
    distance_S = 1 - m_S / (2 - m_S)
    return distance_S.masked_fill_(distance_S < ROUNDING_NOISE, 0)


def pairs_within(weights: Weights, cutoff: float) -> ArrayPairs:
    """All pairs with J ≤ cutoff (1: all with J < 1). UserError when they would not stay linear in the points."""
    sizes_U = weights.sizes_U
    pieces: list[tuple[Tensor, Tensor, Tensor]] = []
    held = total = near = 0
    for u_S, w_S, m_S in overlaps(weights, torch.arange(len(sizes_U), device=sizes_U.device), after=True):
        distance_S = jaccard_of(m_S)
        kept_S = distance_S <= cutoff
        pieces.append((u_S[kept_S], w_S[kept_S], distance_S[kept_S]))
        pairs_S = sizes_U[u_S] * sizes_U[w_S]
        held, total, near = held + len(pieces[-1][0]), total + int(pairs_S.sum()), near + int(pairs_S[kept_S].sum())
        check_linear(held, len(sizes_U))
    u_E, w_E, distance_E = (torch.cat(part) for part in zip(*pieces, strict=True))
    zeros = int((sizes_U * (sizes_U - 1) // 2).sum())
    return ArrayPairs(u_E, w_E, distance_E, cutoff, total, near + zeros, len(sizes_U))


def sample_distances(weights: Weights, step: int) -> Iterator[NDArray[np.float64]]:
    """J < 1 of the pairs u < w of every `step`-th point u, a chunk at a time."""
    every = torch.arange(0, len(weights.sizes_U), step, device=weights.sizes_U.device)
    for _, _, m_S in overlaps(weights, every, after=True):
        yield jaccard_of(m_S).cpu().numpy()


def silhouettes(weights: Weights, chosen_S: Tensor, labels_U: Tensor, sizes_K: Tensor) -> Tensor:
    """Silhouette of some clustered groups, float64 [S] (`distreid.labels.quality.silhouette`)."""
    clusters = len(sizes_K)
    own_S = labels_U[chosen_S]
    inside_S = torch.zeros(len(chosen_S), dtype=torch.float64, device=chosen_S.device)
    outside_S = torch.zeros_like(inside_S)
    for s_E, w_E, m_E in overlaps(weights, chosen_S, after=False):
        itself_E = w_E == chosen_S[s_E]
        # Copies of the point itself are at distance 0; the point is not its own company.
        alike_E = torch.where(itself_E, 1.0, m_E / (2 - m_E)) * (weights.sizes_U[w_E] - itself_E.long())
        clustered_E = labels_U[w_E] >= 0
        keys_G, alike_G = sums_by_key((s_E * clusters + labels_U[w_E])[clustered_E], alike_E[clustered_E])
        s_G, label_G = keys_G // clusters, keys_G % clusters
        own_G = label_G == own_S[s_G]
        inside_S[s_G[own_G]] = alike_G[own_G]
        outside_S.scatter_reduce_(0, s_G[~own_G], (alike_G / sizes_K[label_G])[~own_G], "amax")
    a_S = 1 - inside_S / (sizes_K[own_S] - 1).clamp_min(1)
    b_S = 1 - outside_S
    larger_S = torch.maximum(a_S, b_S)
    meaningful_S = (sizes_K[own_S] > 1) & (larger_S > 0)
    return torch.where(meaningful_S, (b_S - a_S) / larger_S.clamp_min(torch.finfo(torch.float64).tiny), 0.0)

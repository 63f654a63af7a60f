"""k-reciprocal sets, weights and query expansion on a device. The definitions are those of `distreid.retrieval.reciprocal`."""

from typing import NamedTuple

import torch
from torch import Tensor

from distreid.labels.torch_engine.tensors import (
    Features,
    offsets_of,
    ranges,
    segment_sums,
    spans,
    sums_by_key,
    to_device,
)
from distreid.retrieval.lists import Lists

ROWS = 4096


class Sparse(NamedTuple):
    """Rows of (column, value), columns ascending: offsets int64 [R + 1], columns int64, values float64."""

    offsets: Tensor
    columns: Tensor
    values: Tensor


def reciprocal_weights(features: Features, lists: Lists) -> Sparse:
    """V, [N, N]: row i is the softmax of −d² over R*(i)."""
    device, half = features.x_ND.device, lists.half
    near_Uk = to_device(lists.neighbours_Uk, device).long()
    whole_Nk, half_Nh = _reciprocity(features, near_Uk, half)
    count = len(features.group_N)
    lengths: list[Tensor] = []
    columns: list[Tensor] = []
    values: list[Tensor] = []
    for start, stop in spans(count, ROWS):
        mine_Bk = near_Uk[features.group_N[start:stop]].masked_fill(~whole_Nk[start:stop], count)  # count: no point
        members_BM = mine_Bk
        if half:
            members_BM = torch.cat([mine_Bk, _added(features, near_Uk, mine_Bk, half_Nh, count).flatten(1)], dim=1)
        members_BM = members_BM.sort(dim=1).values
        kept_BM = members_BM < count
        kept_BM[:, 1:] &= members_BM[:, 1:] != members_BM[:, :-1]
        lengths_B, columns_E = kept_BM.sum(1), members_BM[kept_BM]
        rows_E = torch.repeat_interleave(torch.arange(start, stop, device=device), lengths_B)
        values_E = features.distances(rows_E, columns_E).neg_().exp_()
        values_E /= torch.repeat_interleave(segment_sums(values_E, lengths_B), lengths_B)
        for pieces, piece in ((lengths, lengths_B), (columns, columns_E), (values, values_E)):
            pieces.append(piece)
    return Sparse(offsets_of(torch.cat(lengths)), torch.cat(columns), torch.cat(values))


def _reciprocity(features: Features, near_Uk: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Whether a point is in turn in the list of its neighbour: within whole lists [N, k], within half lists [N, half]."""
    count, k = len(features.group_N), near_Uk.shape[1]
    whole_Nk = torch.empty(count, k, dtype=torch.bool, device=near_Uk.device)
    half_Nh = torch.empty(count, half, dtype=torch.bool, device=near_Uk.device)
    for start, stop in spans(count, ROWS):
        mine_Bk = near_Uk[features.group_N[start:stop]]
        theirs_Bkk = near_Uk[features.group_N[mine_Bk.clamp_min(0)]]
        me_Bkk = theirs_Bkk == torch.arange(start, stop, device=near_Uk.device)[:, None, None]
        whole_Nk[start:stop] = me_Bkk.any(2) & (mine_Bk >= 0)
        half_Nh[start:stop] = me_Bkk[:, :half, :half].any(2) & (mine_Bk[:, :half] >= 0)
    return whole_Nk, half_Nh


def _added(features: Features, near_Uk: Tensor, mine_Bk: Tensor, half_Nh: Tensor, count: int) -> Tensor:
    """R(c, half) of the c ∈ R(i) whose R(c, half) lies in R(i) by more than two thirds, [B, k, half]; `count` elsewhere."""
    k, half = mine_Bk.shape[1], half_Nh.shape[1]
    is_point_Bk = mine_Bk < count
    c_Bk = mine_Bk.masked_fill(~is_point_Bk, 0)
    theirs_Bkh = near_Uk[features.group_N[c_Bk]][:, :, :half]
    valid_Bkh = half_Nh[c_Bk] & is_point_Bk[:, :, None]
    sorted_Bk = mine_Bk.sort(dim=1).values
    place = torch.searchsorted(sorted_Bk, theirs_Bkh.flatten(1)).clamp_max(k - 1)
    common_Bkh = valid_Bkh & (sorted_Bk.gather(1, place).view_as(theirs_Bkh) == theirs_Bkh)
    accepted_Bk = 3 * common_Bkh.sum(2) > 2 * valid_Bkh.sum(2)
    return theirs_Bkh.masked_fill(~(valid_Bkh & accepted_Bk[:, :, None]), count)


def expand_queries(v: Sparse, lists: Lists) -> Sparse:
    """Local query expansion, [U, N]: V_u ← mean of V over the nearest of u."""
    device, count = v.values.device, len(v.offsets) - 1
    nearest_Uq = to_device(lists.expansion_Uq.copy(), device).long()
    lengths_N = v.offsets.diff()
    lengths: list[Tensor] = []
    columns: list[Tensor] = []
    values: list[Tensor] = []
    for start, stop in spans(len(nearest_Uq), ROWS):
        of_Bq = nearest_Uq[start:stop]
        present_Bq = of_Bq >= 0
        j_P = of_Bq[present_Bq]
        entries_E = ranges(v.offsets[j_P], lengths_N[j_P])
        rows_P = present_Bq.nonzero()[:, 0]
        keys_E = torch.repeat_interleave(rows_P, lengths_N[j_P]) * count + v.columns[entries_E]
        keys_S, sums_S = sums_by_key(keys_E, v.values[entries_E])
        rows_S = keys_S // count
        lengths.append(torch.bincount(rows_S, minlength=stop - start))
        columns.append(keys_S % count)
        values.append(sums_S / present_Bq.sum(1)[rows_S])
    return Sparse(offsets_of(torch.cat(lengths)), torch.cat(columns), torch.cat(values))

"""Exact k nearest neighbours on a device, for both engines of GPUs: float32 products propose, float64 distances rank."""

import torch
from numpy.typing import NDArray
from torch import Tensor

from distreid.labels.torch_engine.tensors import BUDGET, Features, spans, to_device
from distreid.retrieval.blocks import Progress
from distreid.retrieval.lists import NONE, Neighbours
from distreid.retrieval.neighbours import LowPrecision, round_features, to_rows
from distreid.retrieval.prepare import Prepared
from distreid.retrieval.products import full_float32

TILE = (2048, 1 << 15)  # rows and columns of one product: they change speed only, never the result
SPARE = 34  # candidates beyond k that are asked for at first


def nearest(
    prepared: Prepared,
    features: Features,
    k: int,
    *,
    apart_U: NDArray | None = None,
    queries_Q: NDArray | None = None,
    tile: tuple[int, int] = TILE,
    progress: Progress | None = None,
) -> Neighbours:
    """As `distreid.retrieval.neighbours.nearest`; `queries_Q`: the groups that are wanted, all when None.
    tile: rows and columns of one product."""
    device = features.x_ND.device
    low = round_features(prepared, torch.float32, device)
    apart = None if apart_U is None else to_device(apart_U, device)
    wanted = torch.arange(len(features.first_U), device=device) if queries_Q is None else to_device(queries_Q, device)
    rows_Qk = torch.full((len(wanted), k), NONE, device=device)
    squared_Qk = torch.full((len(wanted), k), torch.inf, dtype=torch.float64, device=device)
    with full_float32():
        for start, stop in spans(len(wanted), tile[0]):
            _rank_block(features, low, wanted[start:stop], apart, tile[1], rows_Qk[start:stop], squared_Qk[start:stop])
            if progress is not None:
                progress(stop, len(wanted))
    return to_rows(prepared, rows_Qk.int().cpu().numpy(), squared_Qk.cpu().numpy())


def _rank_block(
    features: Features,
    low: LowPrecision,
    wanted_R: Tensor,
    apart: Tensor | None,
    columns: int,
    rows_Rk: Tensor,
    squared_Rk: Tensor,
) -> None:
    """Fills the lists of some groups; where the candidates may not be all (a crowd too near for float32), again with more."""
    count, k = len(features.first_U), rows_Rk.shape[1]
    kept = min(k, count)
    candidates = min(kept + SPARE, count)
    left = torch.arange(len(wanted_R), device=wanted_R.device)
    while len(left):
        unfinished = []
        for start, stop in spans(len(left), BUDGET // (4 * candidates)):
            part = left[start:stop]
            rows, squared, complete = _candidates(features, low, wanted_R[part], apart, columns, candidates, kept)
            rows_Rk[part, :kept], squared_Rk[part, :kept] = rows, squared
            unfinished.append(part[~complete])
        left, candidates = torch.cat(unfinished), min(4 * candidates, count)


def _candidates(
    features: Features, low: LowPrecision, wanted_R: Tensor, apart: Tensor | None, columns: int, candidates: int, kept: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(groups [R, kept], d² [R, kept], whether these are certainly the nearest [R]) from the nearest candidates in float32."""
    device, count = wanted_R.device, len(features.first_U)
    keys_Rm, groups_Rm = _smallest_keys(low, wanted_R, apart, columns, candidates)
    groups_Rm, order_Rm = torch.sort(groups_Rm, dim=1)
    worst_R, keys_Rm = keys_Rm.amax(1).double(), keys_Rm.gather(1, order_Rm)
    rows_i = features.first_U[wanted_R].repeat_interleave(candidates)
    squared_Rm = features.distances(rows_i, features.first_U[groups_Rm].flatten()).view_as(groups_Rm)
    squared_Rm.masked_fill_(keys_Rm == torch.inf, torch.inf)
    squared_Rk, order_Rk = (sorted_Rm[:, :kept] for sorted_Rm in torch.sort(squared_Rm, dim=1, stable=True))
    groups_Rk = groups_Rm.gather(1, order_Rk).masked_fill_(squared_Rk == torch.inf, NONE)
    # A group that is not among the candidates has a key of `worst` or more; the bound says which keys could still be wanted.
    slack_R, noise_R = (to_device(array, device)[wanted_R] for array in (low.slack_U, low.noise_U))
    reach_R = squared_Rk[:, -1].sqrt() + slack_R
    limit_R = (reach_R.square() / 2 + noise_R) * (1 + low.rounding)
    complete_R = (worst_R > limit_R) | (worst_R == torch.inf) | (candidates == count)
    return groups_Rk, squared_Rk, complete_R


def _smallest_keys(
    low: LowPrecision, wanted_R: Tensor, apart: Tensor | None, columns: int, candidates: int
) -> tuple[Tensor, Tensor]:
    """(keys, groups) of the `candidates` groups with the smallest float32 half squared distance, [R, m]; inf: not to be had."""
    device = wanted_R.device
    keys_Rm = torch.empty(len(wanted_R), 0, device=device)
    groups_Rm = torch.empty(len(wanted_R), 0, dtype=torch.int64, device=device)
    left_RW = low.left(wanted_R)
    for start, stop in spans(len(low.a_UW), columns):
        product_RC = left_RW @ low.a_UW[start:stop].T
        if apart is not None:
            product_RC.masked_fill_(apart[wanted_R, None] == apart[start:stop], torch.inf)
        found = torch.topk(product_RC, min(candidates, stop - start), dim=1, largest=False, sorted=False)
        keys = torch.cat([keys_Rm, found.values], dim=1)
        groups = torch.cat([groups_Rm, found.indices + start], dim=1)
        keys_Rm, at = torch.topk(keys, min(candidates, keys.shape[1]), dim=1, largest=False, sorted=False)
        groups_Rm = groups.gather(1, at)
    return keys_Rm, groups_Rm

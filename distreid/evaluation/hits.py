"""The ranks of each query's positives, exactly, without a queries × gallery matrix and without sorting the gallery.

A block of queries is scored by one float32 product. A positive's rank needs no sort: it is 1 + the number of entries
before it. Entries whose float32 score could have been moved past a positive by rounding are scored again in float64,
so the ranking is that of the float64 scores of the given features, ties by gallery index, whatever the block size, the
number of threads or the device.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.evaluation.features import Features
from distreid.evaluation.metrics import AP, Hits, Metrics, summarise
from distreid.evaluation.pairs import Pairs, find_pairs, places, ranked_gallery
from distreid.retrieval.blocks import Progress, run_slices
from distreid.retrieval.products import as_tensor, block_rows, full_float32, unit_dot_error

_TINY, _HUGE = 1e-12, 1e12  # norms outside cannot be trusted in a float32 product


def rank(
    query: Features,
    gallery: Features,
    *,
    ap: AP = "hits",
    normalize: bool = True,
    block: int | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Metrics:
    """CMC, mAP and mINP by the single-query protocol; see `hit_ranks` for the arguments and `Metrics` for the result.

    ap: which definition `Metrics.mAP` shows, "hits" or "trapezoid"; both are always computed.
    """
    hits = hit_ranks(query, gallery, normalize=normalize, block=block, device=device, progress=progress)
    return summarise(hits, ap)


def hit_ranks(
    query: Features,
    gallery: Features,
    *,
    normalize: bool = True,
    block: int | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Hits:
    """Where each query's positives stand.

    Gallery entries with the query's pid and its camid are ignored (camid -1 is never the same camera), junk (pid -1)
    is dropped, everything else is ranked (Zheng et al., ICCV 2015).

    normalize: rank by cosine, which orders like the Euclidean distance of L2-normalised features (a row of norm under
        1e-12 scores 0); False ranks by the Euclidean distance of the features as given.
    block: queries scored together; the default keeps their scores within 128 MB. It does not change the result.
    device: where the product runs; on "cuda" the gallery is copied there once.
    progress: called with (queries done, queries).

    Raises UserError where the two sides' dimensions differ, norms are out of float32's safe range, the gallery holds
    only junk, or the device is not there.
    """
    gallery, junk = ranked_gallery(query, gallery)
    task = _prepare(query, gallery, normalize)
    block = block or block_rows(len(gallery))
    count = _count_compiled if torch.device(device).type == "cpu" else _count_searched
    before_T = np.zeros(len(task.index), np.int64)
    with full_float32(), torch.inference_mode():
        gallery_GD = as_tensor(task.gallery_GD, device)
        for start in range(0, len(query), block):
            stop = min(start + block, len(query))
            if task.offsets[stop] > task.offsets[start]:
                count(task, _scores(task, gallery_GD, start, stop), start, before_T)
            if progress is not None:
                progress(stop, len(query))
    return Hits(before_T + places(task.offsets) + 1, task.offsets, gallery=len(gallery), junk=junk)


@dataclass(frozen=True, eq=False)
class _Task:
    """The exact scores are dot / scale - shift; the float32 ones are those divided by the query's norm."""

    query_QD: NDArray[np.float32]
    gallery_GD: NDArray[np.float32]
    norm_Q: NDArray[np.float64]
    scale_G: NDArray[np.float64]
    shift_G: NDArray[np.float64]
    offsets: NDArray[np.int64]  # [Q + 1], of each query's positives
    index: NDArray[np.int64]  # [T], their gallery rows, nearest first
    exact: NDArray[np.float64]  # [T], their exact scores
    below: NDArray[np.float32]  # [T], under this float32 score an entry surely comes after the positive …
    above: NDArray[np.float32]  # [T], … and over this one surely before
    pairs: Pairs


def _prepare(query: Features, gallery: Features, normalize: bool) -> _Task:
    from distreid.evaluation import kernels  # numba is loaded when something is ranked, not at import

    squares_G = kernels.squared_norms(gallery.features)
    norm_Q, norm_G = np.sqrt(kernels.squared_norms(query.features)), np.sqrt(squares_G)
    for side, norms in (("query", norm_Q), ("gallery", norm_G)):
        if norms.max() > _HUGE or norms.max() < _TINY:
            raise UserError(f"the largest {side} feature norm is {norms.max():.1e}: rescale the features")
    norm_Q[norm_Q < _TINY] = 1.0
    if normalize:
        scale_G, shift_G = np.where(norm_G < _TINY, np.inf, norm_G), np.zeros(len(gallery))
    else:
        scale_G, shift_G = np.ones(len(gallery)), squares_G / 2

    pairs = find_pairs(query, gallery)
    offsets, index = pairs.offsets, pairs.positives.copy()
    exact = kernels.order_by_score(query.features, gallery.features, scale_G, shift_G, offsets, index)

    largest_Q = np.ones(len(query)) if normalize else norm_G.max() + shift_G.max() / norm_Q
    owner = np.repeat(np.arange(len(query)), np.diff(offsets))
    near_T, slack_T = exact / norm_Q[owner], (unit_dot_error(query.features.shape[1]) * largest_Q)[owner]
    below, above = (near_T - slack_T).astype(np.float32), (near_T + slack_T).astype(np.float32)
    return _Task(
        query.features, gallery.features, norm_Q, scale_G, shift_G, offsets, index, exact, below, above, pairs
    )  # fmt: skip


def _scores(task: _Task, gallery_GD: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Float32 scores [stop - start, G] on the gallery's device; entries with the query's own pid are -inf."""
    device = gallery_GD.device
    norm_B1 = task.norm_Q[start:stop, None]
    unit_BD = as_tensor((task.query_QD[start:stop] / norm_B1).astype(np.float32), device)
    scores_BG = unit_BD @ gallery_GD.T
    scores_BG *= as_tensor((1 / task.scale_G).astype(np.float32), device)
    if task.shift_G.any():
        over_norm_B = as_tensor((1 / norm_B1[:, 0]).astype(np.float32), device)
        scores_BG.addr_(over_norm_B, as_tensor(task.shift_G.astype(np.float32), device), alpha=-1)
    scores_BG[tuple(as_tensor(x, device) for x in task.pairs.block(start, stop))] = -torch.inf
    return scores_BG


def _count_compiled(task: _Task, scores_BG: torch.Tensor, start: int, before_T: NDArray[np.int64]) -> None:
    """On the CPU: compiled loops, one slice of the block's rows a thread."""
    from distreid.evaluation import kernels

    def part(begin: int, end: int) -> None:
        kernels.count_before(
            scores_BG.numpy(), start, begin, end, task.query_QD, task.gallery_GD, task.scale_G, task.shift_G,
            task.offsets, task.index, task.exact, task.below, task.above, before_T,
        )  # fmt: skip

    run_slices(part, len(scores_BG), torch.get_num_threads())


def _count_searched(task: _Task, scores_BG: torch.Tensor, start: int, before_T: NDArray[np.int64]) -> None:
    """On any device: each entry's slot among the query's positives; those in doubt are settled on the CPU."""
    from distreid.evaluation import kernels

    rows = len(scores_BG)
    part = slice(task.offsets[start], task.offsets[start + rows])
    counts_B = np.diff(task.offsets[start : start + rows + 1])
    row_P, column_P = np.repeat(np.arange(rows), counts_B), places(task.offsets[start : start + rows + 1])
    widest = int(counts_B.max())

    def slots(bounds: NDArray[np.float32], right: bool) -> torch.Tensor:
        # Negated, so that they ascend. Padding lies behind every finite score; entries left out (inf) lie behind both.
        ascending_BP = np.full((rows, widest), np.finfo(np.float32).max, np.float32)
        ascending_BP[row_P, column_P] = -bounds[part]
        return torch.searchsorted(as_tensor(ascending_BP, scores_BG.device), scores_BG.neg(), right=right)

    surely_BG, perhaps_BG = slots(task.above, True), slots(task.below, False)
    base_B1 = torch.arange(rows, device=scores_BG.device)[:, None] * (widest + 1)
    histogram_BP = torch.bincount((surely_BG + base_B1).flatten(), minlength=rows * (widest + 1)).view(rows, -1)
    before_T[part] = histogram_BP.cumsum(1).cpu().numpy()[row_P, column_P]
    doubt = torch.nonzero(surely_BG != perhaps_BG, as_tuple=True)
    kernels.settle(
        doubt[0].cpu().numpy() + start, doubt[1].cpu().numpy(), task.query_QD, task.gallery_GD, task.scale_G,
        task.shift_G, task.offsets, task.index, task.exact, perhaps_BG[doubt].cpu().numpy(),
        surely_BG[doubt].cpu().numpy(), before_T,
    )  # fmt: skip

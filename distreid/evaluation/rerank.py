"""k-reciprocal re-ranking (Zhong et al., CVPR 2017), with sparse rows instead of N × N arrays.

The sets R*, the query expansion and the overlaps are those of labels (`distreid.retrieval`). Two steps are re-ranking's own: the
neighbours are ordered by the cosine that ranks (zero vectors have one too, and the same product gives each row's largest
distance), and the weights are the paper's, of d² over the row's largest.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.evaluation.features import Features
from distreid.evaluation.metrics import Hits
from distreid.evaluation.pairs import Pairs, find_pairs, ranked_gallery
from distreid.retrieval.blocks import Progress, run_slices
from distreid.retrieval.products import as_tensor, block_rows, full_float32

if TYPE_CHECKING:
    from distreid.retrieval.reciprocal import Csr  # brings numba

_SPARE = 8  # neighbours fetched beyond need, so that float32 rounding does not decide which are kept


def reranked_hits(
    query: Features,
    gallery: Features,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Hits:
    """Like `hit_ranks` on L2-normalised features, but ranked by λ·d + (1 − λ)·J (Eq. 12).

    d is the squared Euclidean distance over the query's largest one to any image, and J the Jaccard distance of the
    expanded k-reciprocal sets over queries and gallery together: every query sees the others, so this is no longer
    single-query retrieval; say so where such a figure is shown. As in the authors' code the sets hold k1 neighbours
    and the image itself, the half sets round(k1 / 2) and the image itself, and distances inside the sets are divided
    by the row's largest too.

    The products are float32 on `device`; neighbours are ordered by float64 scores. progress counts rows of two passes:
    all images for their neighbours, then the queries.

    Raises UserError where a setting is out of range or the sides cannot be compared.
    """
    gallery, junk = ranked_gallery(query, gallery)
    images = len(query) + len(gallery)
    if not (1 <= k1 < images and 1 <= k2 <= k1 + 1):
        if images <= k1:
            raise UserError(
                f"re-ranking looks at the {k1} nearest images of each, and query and gallery together are {images}: "
                "too few, leave re-ranking (--rerank) out"
            )
        raise UserError(f"re-ranking {images} images needs 1 <= k1 < {images} and 1 <= k2 <= k1 + 1, not {k1=}, {k2=}")
    if not 0 <= lambda_value <= 1:
        raise UserError(f"re-ranking's lambda weighs two distances and must lie in [0, 1], not {lambda_value}")

    def tick(done: int) -> None:
        if progress is not None:
            progress(done, images + len(query))

    unit_ND = np.concatenate([query.features, gallery.features])
    for start in range(0, images, 4096):  # in parts: a temporary of the whole matrix would double the memory
        part = unit_ND[start : start + 4096]
        part /= np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
    with full_float32(), torch.inference_mode():
        units = as_tensor(unit_ND, device)
        near_NK, farthest_N = _neighbours(units, unit_ND, k1, tick)
        weights = _encode(unit_ND, near_NK, farthest_N, round(k1 / 2) + 1, k2)
        return _rank(units, weights, farthest_N, lambda_value, find_pairs(query, gallery), junk, tick)


def _neighbours(
    units: torch.Tensor, unit_ND: NDArray[np.float32], k1: int, tick: Callable[[int], None]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each image's k1 + 1 nearest images, itself among them, and its largest squared distance."""
    from distreid.evaluation import kernels

    images = len(units)
    wide, block = min(k1 + 1 + _SPARE, images), block_rows(images)
    near_NK, farthest_N = np.empty((images, wide), np.int64), np.empty(images)
    for start in range(0, images, block):
        cosines_BN = units[start : start + block] @ units.T
        rows = slice(start, start + len(cosines_BN))
        farthest_N[rows] = 2 - 2 * cosines_BN.amin(dim=1).cpu().numpy().astype(np.float64)
        near_NK[rows] = np.sort(cosines_BN.topk(wide, dim=1, sorted=False).indices.cpu().numpy(), axis=1)
        tick(rows.stop)
    offsets = np.arange(images + 1) * wide
    kernels.order_by_score(unit_ND, unit_ND, np.ones(images), np.zeros(images), offsets, near_NK.reshape(-1))
    # The image itself comes first, even where copies of it tie and crowd it out.
    own_NK = near_NK == np.arange(images)[:, None]
    own_NK[~own_NK.any(axis=1), -1] = True
    others_NK = near_NK[~own_NK].reshape(images, wide - 1)
    return np.column_stack([np.arange(images), others_NK[:, :k1]]), farthest_N


def _encode(unit_ND: NDArray[np.float32], near_NK: NDArray[np.int64], farthest_N: NDArray[np.float64], half: int, k2: int) -> "Csr":
    """V [N, N], rows summing to 1 (Eq. 7), averaged over the k2 nearest (Eq. 11)."""
    from distreid.evaluation import kernels
    from distreid.retrieval.reciprocal import Csr, expand_queries, reciprocal_sets

    images, threads = len(unit_ND), torch.get_num_threads()
    neighbours_NK = near_NK.astype(np.int32)
    offsets, found_T = reciprocal_sets(neighbours_NK, np.arange(images, dtype=np.int32), half, threads)
    owner_T = np.repeat(np.arange(images), np.diff(offsets))
    members_T = found_T[np.lexsort((found_T, owner_T))].astype(np.int64)
    cosines_T = kernels.order_by_score(unit_ND, unit_ND, np.ones(images), np.zeros(images), offsets, members_T)
    weights_T = np.exp(-(2 - 2 * cosines_T) / farthest_N[owner_T])
    weights_T /= np.add.reduceat(weights_T, offsets[:-1])[owner_T]
    return expand_queries(Csr(offsets, members_T.astype(np.int32), weights_T), neighbours_NK[:, :k2], threads)


def _rank(
    units: torch.Tensor,
    weights: "Csr",
    farthest_N: NDArray[np.float64],
    lambda_value: float,
    pairs: Pairs,
    junk: int,
    tick: Callable[[int], None],
) -> Hits:
    from distreid.evaluation import rerank_kernels
    from distreid.retrieval.jaccard import by_row_and_column

    images, queries = len(units), len(pairs.offsets) - 1
    v = by_row_and_column(weights.rows(np.arange(queries)), weights.rows(np.arange(queries, images)), images)
    ranks = np.empty(len(pairs.positives), np.int64)
    block = block_rows(images - queries)
    for start in range(0, queries, block):
        stop = min(start + block, queries)
        cosines_BG = (units[start:stop] @ units[queries:].T).cpu().numpy()

        def part(begin: int, end: int, start: int = start, cosines_BG: NDArray[np.float32] = cosines_BG) -> None:
            rerank_kernels.rank_jaccard(
                cosines_BG, start, begin, end, lambda_value, farthest_N, v,
                pairs.same_offsets, pairs.same, pairs.offsets, pairs.positives, ranks,
            )  # fmt: skip

        run_slices(part, stop - start, torch.get_num_threads())
        tick(images + stop)
    return Hits(ranks, pairs.offsets, gallery=images - queries, junk=junk)

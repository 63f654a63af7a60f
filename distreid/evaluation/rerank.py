"""k-reciprocal re-ranking (Zhong et al., CVPR 2017), with sparse rows instead of N × N arrays.

The sets R*, the query expansion and the overlaps are those of labels (`distreid.retrieval`). Two steps are re-ranking's own: the
neighbours are ordered by the cosine that ranks (zero vectors have one too, and the same product gives each row's largest
distance), and the weights are the paper's, of d² over the row's largest.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.common.text import first_line
from distreid.evaluation.features import Features
from distreid.evaluation.metrics import Hits
from distreid.evaluation.pairs import Pairs, find_pairs, ranked_gallery
from distreid.retrieval.blocks import Progress
from distreid.retrieval.products import full_float32

if TYPE_CHECKING:
    from distreid.evaluation.rerank_stages import Stages, Tick  # brings numba

log = logging.getLogger(__name__)

Engine = Callable[[NDArray[np.float32]], "Stages"]


def reranked_hits(
    query: Features,
    gallery: Features,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    device: str | torch.device = "cpu",
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Hits:
    """Like `hit_ranks` on L2-normalised features, but ranked by λ·d + (1 − λ)·J (Eq. 12).

    d is the squared Euclidean distance over the query's largest one to any image, and J the Jaccard distance of the
    expanded k-reciprocal sets over queries and gallery together: every query sees the others, so this is no longer
    single-query retrieval; say so where such a figure is shown. As in the authors' code the sets hold k1 neighbours
    and the image itself, the half sets round(k1 / 2) and the image itself, and distances inside the sets are divided
    by the row's largest too.

    Exact: every distance is that of float64 scores of the normalised features, ties by index, whatever the device or number
    of threads. Products are float32 on `device`; all else is there too where our kernels run (a GPU with CuPy), and on the
    CPU where they do not. engine: in place of the one that the device names. progress counts rows of two passes: all images
    for their neighbours, then the queries.

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

    unit_ND = unit_rows(query, gallery)
    pairs = find_pairs(query, gallery)
    sets = k1, k2, lambda_value
    if engine is not None:
        ranks_T = _ranks(engine(unit_ND), *sets, pairs, tick)
    else:
        ranks_T = _ranks_on(device, unit_ND, *sets, pairs, tick)
    return Hits(ranks_T, pairs.offsets, gallery=len(gallery), junk=junk)


def unit_rows(query: Features, gallery: Features) -> NDArray[np.float32]:
    """The L2-normalised features of both sides, the queries first; zero vectors stay as they are."""
    unit_ND = np.concatenate([query.features, gallery.features])
    for start in range(0, len(unit_ND), 4096):  # in parts: a temporary of the whole matrix would double the memory
        part = unit_ND[start : start + 4096]
        part /= np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
    return unit_ND


def _ranks(stages: "Stages", k1: int, k2: int, lambda_value: float, pairs: Pairs, tick: "Tick") -> NDArray[np.int64]:
    with full_float32(), torch.inference_mode():
        near_NK, farthest_N = stages.neighbours(k1, tick)
        v = stages.expand(stages.weights(near_NK, farthest_N, round(k1 / 2) + 1), near_NK, k2)
        return stages.ranks(v, farthest_N, lambda_value, pairs, tick)


def _ranks_on(device: str | torch.device, unit_ND: NDArray[np.float32], *rest: Any) -> NDArray[np.int64]:
    """By our kernels where the device runs them, else by compiled loops, to which a device without enough memory leaves all."""
    from distreid.evaluation.rerank_stages import CompiledStages

    threads = torch.get_num_threads()
    if torch.device(device).type == "cpu":
        return _ranks(CompiledStages(unit_ND, device, threads), *rest)
    from distreid.evaluation.rerank_gpu import KernelStages
    from distreid.retrieval.gpu.choice import find_backend

    backend, _ = find_backend(torch.device(device))
    try:
        if backend is None:
            return _ranks(CompiledStages(unit_ND, device, threads), *rest)
        return _ranks(KernelStages(unit_ND, backend), *rest)
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:  # CuPy's are MemoryErrors
        log.warning(
            "too little memory on the GPU to re-rank (%s): this time the CPU does it, slower and the same", first_line(error)
        )
    finally:
        if backend is not None:
            backend.release()
    return _ranks(CompiledStages(unit_ND, "cpu", threads), *rest)

"""Approximate neighbours for very large sets: faiss proposes, float64 distances rank, the recall is measured. Off by default."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.retrieval import neighbour_kernels as kernels
from distreid.retrieval.blocks import blocks, run_blocks
from distreid.retrieval.lists import NONE, Neighbours
from distreid.retrieval.neighbours import to_rows
from distreid.retrieval.prepare import Prepared

log = logging.getLogger(__name__)

BLOCK = 16384
SPARE = 34  # candidates beyond k: faiss ranks in float32
RECALL_SAMPLE = 256
SEED = 1234
MOST_ON_GPU = 2048  # candidates that faiss's GPU indices can be asked for


class ApproximateSearch:
    """A `distreid.retrieval.lists.Search` by way of a faiss index (Douze et al., "The Faiss library", 2024).

    "ivf": 4·√N cells of k-means, of which each point searches a sixteenth (at least 16). "hnsw": a graph of 32 links a point
    (Malkov and Yashunin, 2018); slower to build, and built with several threads it may differ from run to run.

    device: on a GPU "ivf" proposes there, where faiss is built for GPUs; what it proposes is ranked and counted as ever.
    """

    def __init__(self, kind: Literal["ivf", "hnsw"], threads: int, device: torch.device | str = "cpu") -> None:
        try:
            import faiss
        except ImportError as error:
            raise UserError(f"neighbours = {kind} needs faiss: pip install 'distreid[approximate]', or use exact") from error
        self._faiss, self._kind, self._threads, self._device = faiss, kind, threads, torch.device(device)
        self.recall = 0.0  # of the last search: share of the exact neighbours that were found, on up to 256 evenly spaced points

    def __call__(self, prepared: Prepared, k: int, *, apart_U: NDArray[np.int64] | None = None) -> Neighbours:
        if apart_U is not None:
            raise UserError(f"neighbours = {self._kind} knows no cameras: camera-aware distances need exact neighbours")
        count = len(prepared.first_U)
        self._faiss.omp_set_num_threads(self._threads)
        candidates_UC = self._propose(prepared, k, min(k + SPARE, count))
        found = to_rows(prepared, *_rank(prepared, candidates_UC, k, self._threads))
        sample_Q = np.unique(np.linspace(0, count - 1, RECALL_SAMPLE).astype(np.int64))
        exact_Qk = _exact(prepared, sample_Q, k)
        hits = sum(len(np.intersect1d(ours, exact)) for ours, exact in zip(found[0][sample_Q], exact_Qk, strict=True))
        self.recall = hits / exact_Qk.size
        return found

    def _propose(self, prepared: Prepared, k: int, wanted: int) -> NDArray[np.int32]:
        """`_candidates` of an index on the GPU, or on the CPU where that cannot be."""
        built = hasattr(self._faiss, "StandardGpuResources") and self._faiss.get_num_gpus() > 0
        if built and self._device.type == "cuda" and self._kind == "ivf" and wanted <= MOST_ON_GPU:
            try:
                resources = self._faiss.StandardGpuResources()
                number = self._device.index or 0
                move = partial(self._faiss.index_cpu_to_gpu, resources, number)
                return self._candidates(self._index(prepared, k, move), prepared, wanted)
            except RuntimeError as error:  # faiss's own, of memory too
                log.warning("faiss does not work on the GPU (%s): it searches on the CPU", str(error).split("\n")[0])
        return self._candidates(self._index(prepared, k), prepared, wanted)

    def _index(self, prepared: Prepared, k: int, move: Callable[[Any], Any] | None = None) -> Any:
        """An index of all groups; `move` brings an index to a GPU."""
        faiss, count, dim = self._faiss, len(prepared.first_U), prepared.x_ND.shape[1]
        if self._kind == "hnsw":
            index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_L2)
            index.hnsw.efConstruction = 200
            index.hnsw.efSearch = max(128, 4 * k)
        else:
            cells = max(1, min(int(4 * count**0.5), count // 39))  # 39 points a cell are what faiss wants to train on
            index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, cells, faiss.METRIC_L2)
            index.nprobe = max(16, cells // 16)
            index.cp.seed, index.cp.niter, index.cp.nredo, index.cp.spherical = SEED, 10, 1, False  # of k-means
            learned_from = np.random.default_rng(SEED).permutation(count)[: 64 * cells]
            if move is not None:
                index.clustering_index = move(faiss.IndexFlatL2(dim))
            index.train(_unit(prepared, np.sort(learned_from)))
            if move is not None:
                index.clustering_index = None
                index = move(index)
        for start, stop in blocks(count, BLOCK):
            index.add(_unit(prepared, np.arange(start, stop)))
        return index

    def _candidates(self, index: Any, prepared: Prepared, wanted: int) -> NDArray[np.int32]:
        """Groups near each group, itself among them; NONE where the index found fewer."""
        count = len(prepared.first_U)
        candidates_UC = np.empty((count, wanted), np.int32)
        for start, stop in blocks(count, BLOCK):
            groups_B = np.arange(start, stop)
            candidates_UC[start:stop] = index.search(_unit(prepared, groups_B), wanted)[1]
            missing_B = ~(candidates_UC[start:stop] == groups_B[:, None]).any(1)
            candidates_UC[groups_B[missing_B], -1] = groups_B[missing_B]
        return candidates_UC


def _unit(prepared: Prepared, groups_B: NDArray[np.int64], kind: type[np.floating] = np.float32) -> NDArray[np.floating]:
    rows_B = prepared.first_U[groups_B]
    return (prepared.x_ND[rows_B] * prepared.inverse_norms_N[rows_B, None]).astype(kind)


def _exact(prepared: Prepared, groups_Q: NDArray[np.int64], k: int) -> NDArray[np.int32]:
    """The k nearest rows of some groups, by plain float64 products."""
    count = len(prepared.first_U)
    kept, queries_QD = min(k, count), torch.from_numpy(_unit(prepared, groups_Q, np.float64))
    cosines_Qk, groups_Qk = torch.empty(len(groups_Q), 0, dtype=torch.float64), torch.empty(len(groups_Q), 0, dtype=torch.int64)
    for start, stop in blocks(count, BLOCK):
        product_QB = queries_QD @ torch.from_numpy(_unit(prepared, np.arange(start, stop), np.float64)).T
        cosines_QC = torch.cat([cosines_Qk, product_QB], 1)
        groups_QC = torch.cat([groups_Qk, torch.arange(start, stop).expand(len(groups_Q), -1)], 1)
        cosines_Qk, at = cosines_QC.topk(min(kept, cosines_QC.shape[1]), dim=1)
        groups_Qk = groups_QC.gather(1, at)
    wide_Qk, squared_Qk = np.full((len(groups_Q), k), NONE, np.int32), np.full((len(groups_Q), k), np.inf)
    wide_Qk[:, :kept], squared_Qk[:, :kept] = groups_Qk.numpy(), 2 - 2 * cosines_Qk.numpy()
    return to_rows(prepared, wide_Qk, squared_Qk)[0]


def _rank(
    prepared: Prepared, candidates_UC: NDArray[np.int32], k: int, threads: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The k nearest of the candidates, by (float64 d², group)."""
    count, kept = len(candidates_UC), min(k, candidates_UC.shape[1])
    # NONE sorts to the front: what is behind it are the candidates.
    candidates_UC = np.sort(candidates_UC, axis=1)[:, ::-1].copy()
    counts_U = (candidates_UC != NONE).sum(1).astype(np.int32)
    # Keys of 0 and endless slack: every candidate is ranked, whatever the low-precision bound would say.
    table = (np.zeros(candidates_UC.shape, np.int32), candidates_UC, counts_U, np.full(count, np.iinfo(np.int32).max, np.int32))
    bound = (np.full(count, np.inf), np.zeros(count), 0.0, 0)
    data = (prepared.x_ND, prepared.inverse_norms_N, prepared.first_U)
    rows_Uk, squared_Uk = np.full((count, k), NONE, np.int32), np.full((count, k), np.inf)
    run_blocks(lambda start, stop: kernels.rank(start, stop, kept, table, bound, data, rows_Uk, squared_Uk), count, 256, threads)
    return rows_Uk, squared_Uk

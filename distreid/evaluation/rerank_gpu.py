"""Re-ranking's stages by the kernels of `distreid.retrieval.gpu`: every array has the bits of `CompiledStages`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.evaluation.pairs import Pairs
from distreid.evaluation.rerank_stages import Tick, candidates
from distreid.retrieval.gpu import encoding
from distreid.retrieval.gpu.backend import Backend, scoped
from distreid.retrieval.gpu.encoding import Given, Rows
from distreid.retrieval.products import as_tensor, block_rows, unit_dot_error
from distreid.retrieval.reciprocal import Csr

PIECE = 1 << 23  # scores of rows that are ranked whole, at a time
LANES = 8  # threads that make a score


@dataclass(frozen=True)
class Expanded:
    """V after the query expansion, and the row of each of its entries."""

    v: Rows
    rows_E: Any


class KernelStages:
    """Implements `distreid.evaluation.rerank_stages.Stages`."""

    def __init__(self, unit_ND: NDArray[np.float32], backend: Backend) -> None:
        self.backend = backend
        with backend.scope():
            self._units = as_tensor(unit_ND, backend.device)
        self._error = unit_dot_error(unit_ND.shape[1])

    def _run(self, name: str, blocks: int, *arguments: Any, ints: int = 0) -> None:
        encoding.run(self.backend, name, blocks, *arguments, ints=ints)

    def _scores(self, i_E: torch.Tensor, j_E: torch.Tensor) -> torch.Tensor:
        """Float64 scores of pairs of images."""
        backend, x_ND = self.backend, self.backend.array(self._units)
        i, j = backend.array(i_E.int()), backend.array(j_E.int())
        scores_E = backend.xp.empty(len(i), np.float64)
        blocks = -(-len(i) * LANES // backend.threads)
        self._run("scores", blocks, len(i), x_ND.shape[1], x_ND, i, j, scores_E)
        return backend.tensor(scores_E)

    @scoped
    def neighbours(self, k1: int, tick: Tick) -> tuple[Any, Any]:
        images, block, xp = len(self._units), block_rows(len(self._units)), self.backend.xp
        near_NK, farthest_N = xp.empty((images, k1 + 1), np.int32), xp.empty(images, np.float64)
        near = self.backend.tensor(near_NK)
        near[:, 0] = torch.arange(images, device=near.device)
        x_ND = self.backend.array(self._units)
        for start in range(0, images, block):
            stop = min(start + block, images)
            cosines_BN, candidates_BW = candidates(self._units, start, stop, k1)
            known = stop - start, images, x_ND.shape[1], start, self._error, self.backend.array(cosines_BN), x_ND
            self._run("farthest", -(-32 * (stop - start) // self.backend.threads), *known, farthest_N)
            near[start:stop, 1:] = self._nearest(cosines_BN, candidates_BW, start, k1)
            tick(stop)
        return near_NK, farthest_N

    def _nearest(self, cosines_BN: torch.Tensor, candidates_BW: torch.Tensor, start: int, k1: int) -> torch.Tensor:
        """The k1 others that are nearest to images start, start + 1, … [B, k1]; where candidates may not be all, of all others."""
        (rows, images), wide = cosines_BN.shape, candidates_BW.shape[1]
        image_B = torch.arange(start, start + rows, device=cosines_BN.device)
        scores_BW = self._scores(image_B.repeat_interleave(wide), candidates_BW.flatten()).view_as(candidates_BW)
        scores_BK, at_BK = (sorted_BW[:, :k1] for sorted_BW in scores_BW.sort(dim=1, descending=True, stable=True))
        nearest_BK = candidates_BW.gather(1, at_BK)
        if wide == images - 1:
            return nearest_BK
        worst_B = cosines_BN.gather(1, candidates_BW).amin(1).double()
        left = torch.nonzero(worst_B + self._error >= scores_BK[:, -1]).flatten()
        everyone = torch.arange(images, device=cosines_BN.device)
        for part in left.split(max(PIECE // images, 1)):
            scores_RN = self._scores(image_B[part].repeat_interleave(images), everyone.repeat(len(part))).view(len(part), images)
            scores_RN.scatter_(1, image_B[part, None], -torch.inf)
            nearest_BK[part] = scores_RN.sort(dim=1, descending=True, stable=True).indices[:, :k1]
        return nearest_BK

    @scoped
    def weights(self, near_NK: Any, farthest_N: Any, half: int) -> Rows:
        backend, x_ND = self.backend, self.backend.array(self._units)
        given = Given(near_NK, backend.xp.arange(len(near_NK), dtype=np.int32), half, x_ND)
        v = encoding.reciprocal_rows(backend, given, weights=False)
        known = len(x_ND), x_ND.shape[1], x_ND, farthest_N, v.offsets, v.columns
        self._run("relative_weights", min(len(x_ND), encoding.MOST_BLOCKS), *known, v.values)
        return v

    @scoped
    def expand(self, v: Rows, near_NK: Any, k2: int) -> Expanded:
        return Expanded(*encoding.expand_queries(self.backend, v, near_NK[:, :k2].copy()))

    @scoped
    def ranks(self, v: Expanded, farthest_N: Any, lambda_value: float, pairs: Pairs, tick: Tick) -> NDArray[np.int64]:
        backend, xp, x_ND = self.backend, self.backend.xp, self.backend.array(self._units)
        (images, dim), queries = x_ND.shape, len(pairs.offsets) - 1
        gallery, begin = images - queries, int(v.v.offsets[queries])
        # The entries of the queries come first; those of the gallery are wanted by column.
        of_gallery = v.rows_E[begin:] - np.int32(queries), v.v.columns[begin:], v.v.values[begin:]
        both = v.v.offsets, v.v.columns, v.v.values, *encoding.by_column(backend, *of_gallery, images)[:3]
        counted = [xp.asarray(array) for array in (pairs.same_offsets, pairs.same, pairs.offsets, pairs.positives)]
        found_T, ranks_T = xp.empty(len(pairs.positives), np.float64), xp.empty(len(pairs.positives), np.int64)
        block = block_rows(gallery)
        blocks = encoding.blocks_for(backend, min(block, queries), gallery)
        out = found_T, *encoding.scratch(backend, blocks, gallery), ranks_T
        for start in range(0, queries, block):
            stop = min(start + block, queries)
            cosines_BG = backend.array(self._units[start:stop] @ self._units[queries:].T)
            sizes = start, stop - start, queries, gallery, dim, lambda_value, self._error
            self._run("positive_ranks", blocks, *sizes, cosines_BG, x_ND, farthest_N, *both, *counted, *out, ints=3)
            tick(images + stop)
        return backend.host(ranks_T)

    @scoped
    def rows(self, v: Rows | Expanded) -> Csr:
        v = v.v if isinstance(v, Expanded) else v
        return Csr(*map(self.backend.host, (v.offsets, v.columns, v.values)))

    @scoped
    def host(self, array: Any) -> NDArray[Any]:
        return self.backend.host(array)

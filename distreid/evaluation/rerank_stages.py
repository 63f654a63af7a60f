"""What re-ranking computes, in stages: `CompiledStages` on a CPU; `distreid.evaluation.rerank_gpu` has the same by kernels."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.evaluation import rerank_kernels as kernels
from distreid.evaluation.pairs import Pairs
from distreid.retrieval.blocks import run_blocks, run_slices
from distreid.retrieval.jaccard import by_row_and_column
from distreid.retrieval.products import as_tensor, block_rows, unit_dot_error
from distreid.retrieval.reciprocal import ROWS, Csr, expand_queries, reciprocal_sets

SPARE = 8  # neighbours fetched beyond need: with fewer, more rows are looked at again


Tick = Callable[[int], None]  # told how many rows are done


class Stages(Protocol):
    """Made for the L2-normalised features of queries and gallery together, float32 [N, D], the queries first. Every array is the
    same on every engine, to the bit."""

    def neighbours(self, k1: int, tick: Tick) -> tuple[Any, Any]:
        """(near int32 [N, k1 + 1]: each image and its k1 nearest others by float64 score, ties by index; its largest d², float64
        [N])."""
        ...

    def weights(self, near_NK: Any, farthest_N: Any, half: int) -> Any:
        """V (Eq. 7), [N, N], over R*."""
        ...

    def expand(self, v: Any, near_NK: Any, k2: int) -> Any:
        """V averaged over the k2 nearest (Eq. 11)."""
        ...

    def ranks(self, v: Any, farthest_N: Any, lambda_value: float, pairs: Pairs, tick: Tick) -> NDArray[np.int64]:
        """The ranks of all positives by λ·d + (1 − λ)·J, int64 [T], ascending within a query."""
        ...

    def rows(self, v: Any) -> Csr:
        """V as the compiled code has it."""
        ...

    def host(self, array: Any) -> NDArray[Any]:
        """An array as numpy's."""
        ...


class CompiledStages:
    """Float32 products on `device`, the rest by compiled loops on a few threads."""

    def __init__(self, unit_ND: NDArray[np.float32], device: str | torch.device = "cpu", threads: int = 1) -> None:
        self._unit_ND, self._units, self._threads = unit_ND, as_tensor(unit_ND, device), threads
        self._error = unit_dot_error(unit_ND.shape[1])

    def neighbours(self, k1: int, tick: Tick) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        images, block = len(self._units), block_rows(len(self._units))
        near_NK, farthest_N = np.empty((images, k1 + 1), np.int32), np.empty(images)
        for start in range(0, images, block):
            cosines_BN, candidates_BW = candidates(self._units, start, min(start + block, images), k1)
            given = cosines_BN.cpu().numpy(), candidates_BW.cpu().numpy(), start

            def part(begin: int, end: int, given: tuple = given) -> None:
                kernels.neighbours(*given, begin, end, self._error, self._unit_ND, near_NK, farthest_N)

            run_slices(part, len(cosines_BN), self._threads)
            tick(start + len(cosines_BN))
        return near_NK, farthest_N

    def weights(self, near_NK: NDArray[np.int32], farthest_N: NDArray[np.float64], half: int) -> Csr:
        images = len(near_NK)
        offsets, members_T = reciprocal_sets(near_NK, np.arange(images, dtype=np.int32), half, self._threads)
        values_T = np.empty(len(members_T))

        def part(begin: int, end: int) -> None:
            kernels.weights(begin, end, self._unit_ND, farthest_N, offsets, members_T, values_T)

        run_blocks(part, images, ROWS, self._threads)
        return Csr(offsets, members_T, values_T)

    def expand(self, v: Csr, near_NK: NDArray[np.int32], k2: int) -> Csr:
        return expand_queries(v, near_NK[:, :k2], self._threads)

    def ranks(self, v: Csr, farthest_N: NDArray[np.float64], lambda_value: float, pairs: Pairs, tick: Tick) -> NDArray[np.int64]:
        images, queries = len(farthest_N), len(pairs.offsets) - 1
        both = by_row_and_column(v.rows(np.arange(queries)), v.rows(np.arange(queries, images)), images)
        ranks_T, block = np.empty(len(pairs.positives), np.int64), block_rows(images - queries)
        for start in range(0, queries, block):
            stop = min(start + block, queries)
            cosines_BG = (self._units[start:stop] @ self._units[queries:].T).cpu().numpy()

            def part(begin: int, end: int, start: int = start, cosines_BG: NDArray[np.float32] = cosines_BG) -> None:
                kernels.ranks(
                    cosines_BG, start, begin, end, lambda_value, self._error, self._unit_ND, farthest_N, both,
                    pairs.same_offsets, pairs.same, pairs.offsets, pairs.positives, ranks_T,
                )  # fmt: skip

            run_slices(part, stop - start, self._threads)
            tick(images + stop)
        return ranks_T

    def rows(self, v: Csr) -> Csr:
        return v

    def host(self, array: NDArray[Any]) -> NDArray[Any]:
        return array


def candidates(units: torch.Tensor, start: int, stop: int, k1: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The float32 products of some images with all, each one's own −inf, and of each row the others that have the largest,
    ascending [B, W]."""
    cosines_BN = units[start:stop] @ units.T
    cosines_BN.diagonal(start).fill_(-torch.inf)
    wide = min(k1 + SPARE, len(units) - 1)
    return cosines_BN, cosines_BN.topk(wide, dim=1, sorted=False).indices.sort(dim=1).values

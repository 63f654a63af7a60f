"""k-reciprocal (Jaccard) distances of all pairs with J < 1, sparse, each step a function of arrays.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding" (CVPR 2017), in the form used for clustering:
weights are the softmax of −d² and rows sum to 1, so J = 1 − m / (2 − m) with m = Σ_g min(V_ig, V_jg). As in the widespread
code, the k1 nearest *include the point itself*, and the half list has round(k1/2) + 1 entries, itself included.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distreid.retrieval import reciprocal_kernels as kernels
from distreid.retrieval.blocks import map_blocks, run_blocks
from distreid.retrieval.lists import Lists
from distreid.retrieval.prepare import Prepared


@dataclass(frozen=True)
class Csr:
    """Rows of (column, value): indptr int64, indices int32 (not sorted within a row), data float64."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    data: NDArray[np.float64]

    def rows(self, rows: NDArray[np.integer]) -> "Csr":
        """The given rows, in that order."""
        lengths = np.diff(self.indptr)[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        entries = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], lengths)
        return Csr(indptr, self.indices[entries], self.data[entries])


def stack(pieces: Iterable[tuple[NDArray, NDArray, NDArray]]) -> Csr:
    """One CSR from the pieces (lengths, indices, data) of consecutive blocks of rows. The arrays grow in place: a second copy of
    the graph would be the peak of the whole labelling."""
    lengths: list[NDArray] = []
    indices, data = np.empty(0, np.int32), np.empty(0, np.float64)
    used = 0
    for piece_lengths, piece_indices, piece_data in pieces:
        end = used + len(piece_indices)
        if end > len(indices):
            room = max(end, len(indices) + len(indices) // 4)
            indices.resize(room, refcheck=False)
            data.resize(room, refcheck=False)
        indices[used:end], data[used:end] = piece_indices, piece_data
        lengths.append(piece_lengths)
        used = end
    indices.resize(used, refcheck=False)
    data.resize(used, refcheck=False)
    return Csr(np.concatenate([[0], np.cumsum(np.concatenate(lengths))]), indices, data)


def reciprocal_weights(prepared: Prepared, lists: Lists, threads: int) -> Csr:
    """V, [N, N]: row i is the softmax of −d² over R*(i, k1).

    R(i, k) = {j ∈ N(i, k) : i ∈ N(j, k)}; R* adds R(c, half) for each c ∈ R(i, k1) with |R(c, half) ∩ R(i, k1)| > ⅔·|R(c, half)|.
    """
    count, k = len(prepared.group_N), lists.neighbours_Uk.shape[1]
    flags_Nk = np.empty((count, k), np.uint8)
    lists_of = (lists.neighbours_Uk, prepared.group_N, flags_Nk)
    run_blocks(lambda start, stop: kernels.reciprocity(start, stop, lists.half, *lists_of), count, 1024, threads)

    def block(start: int, stop: int) -> tuple[NDArray, NDArray, NDArray]:
        features = prepared.x_ND, prepared.inverse_norms_N
        return kernels.reciprocal_weights(start, stop, lists.half, *lists_of, lists.squared_Uk, *features)

    return stack(map_blocks(block, count, 512, threads))


def expand_queries(weights: Csr, lists: Lists, threads: int) -> Csr:
    """Local query expansion, [U, N]: V_u ← mean of V over the nearest of u (`lists.expansion_Uq`), itself included."""

    def block(start: int, stop: int) -> tuple[NDArray, NDArray, NDArray]:
        return kernels.expand_queries(start, stop, lists.expansion_Uq, weights.indptr, weights.indices, weights.data)

    return stack(map_blocks(block, len(lists.expansion_Uq), 512, threads))

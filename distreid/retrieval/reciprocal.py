"""k-reciprocal encoding, sparse: who is in turn among whose neighbours, and the rows V that Jaccard distances compare.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding" (CVPR 2017). R(i, k) = {j ∈ N(i, k) : i ∈ N(j, k)};
R*(i) adds R(c, half) for each c ∈ R(i, k) with |R(c, half) ∩ R(i, k)| > ⅔·|R(c, half)|. Lists of neighbours include the point
itself, as in the widespread code. Labels weigh the members by the softmax of −d² (`reciprocal_weights`); re-ranking, which
divides d² by the row's largest, weighs the same sets itself (`distreid.evaluation.rerank`).

Every kernel works on a block of rows and returns that block's piece of a CSR, so that threads need no common memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from distreid.retrieval.blocks import map_blocks, run_blocks
from distreid.retrieval.decay import decay
from distreid.retrieval.distances import LANES, normalized_row, squared_distance
from distreid.retrieval.lists import Lists
from distreid.retrieval.prepare import Prepared

ROWS = 512
IN_HALF = 2  # flag of a neighbour that is reciprocal within the half list too; 1: within the whole list only; 0: not reciprocal


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


def reciprocity(neighbours_Uk: NDArray[np.int32], group_N: NDArray[np.int32], half: int, threads: int) -> NDArray[np.uint8]:
    """flags_Nk[i, s]: whether point i is in turn among the neighbours of its s-th neighbour (see IN_HALF).

    neighbours_Uk: a row for each group of copies, nearest first (`distreid.retrieval.lists`). group_N: the group of each point.
    """
    flags_Nk = np.empty((len(group_N), neighbours_Uk.shape[1]), np.uint8)
    run_blocks(
        lambda start, stop: _reciprocity(start, stop, half, neighbours_Uk, group_N, flags_Nk), len(group_N), 2 * ROWS, threads
    )
    return flags_Nk


def reciprocal_sets(
    neighbours_Uk: NDArray[np.int32], group_N: NDArray[np.int32], half: int, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """R*(i) of every point: offsets int64 [N + 1] and the members, those of R(i) first, nearest first."""
    lists_of = neighbours_Uk, group_N, reciprocity(neighbours_Uk, group_N, half, threads)
    blocks = list(map_blocks(lambda start, stop: _sets(start, stop, half, *lists_of), len(group_N), ROWS, threads))
    lengths_N, members = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return np.concatenate([[0], np.cumsum(lengths_N)]), members


def reciprocal_weights(prepared: Prepared, lists: Lists, threads: int) -> Csr:
    """V, [N, N]: row i is the softmax of −d² over R*(i)."""
    lists_of = lists.neighbours_Uk, prepared.group_N
    flags_Nk = reciprocity(*lists_of, lists.half, threads)

    def block(start: int, stop: int) -> tuple[NDArray, NDArray, NDArray]:
        lengths, members = _sets(start, stop, lists.half, *lists_of, flags_Nk)
        known = prepared.group_N, flags_Nk, lists.squared_Uk
        return lengths, members, _softmax(start, lengths, members, *known, prepared.x_ND, prepared.inverse_norms_N)

    return stack(map_blocks(block, len(prepared.group_N), ROWS, threads))


def expand_queries(weights: Csr, nearest_Uq: NDArray[np.int32], threads: int) -> Csr:
    """Local query expansion, [U, N]: V_u ← mean of V over the nearest of u, itself included. A place of −1 does not count."""

    def block(start: int, stop: int) -> tuple[NDArray, NDArray, NDArray]:
        return _expand_queries(start, stop, nearest_Uq, weights.indptr, weights.indices, weights.data)

    return stack(map_blocks(block, len(nearest_Uq), ROWS, threads))


@njit(cache=True, nogil=True)
def _reciprocity(start: int, stop: int, half: int, neighbours_Uk: NDArray, group_N: NDArray, flags_Nk: NDArray) -> None:
    k = neighbours_Uk.shape[1]
    for i in range(start, stop):
        for s in range(k):
            flags_Nk[i, s] = 0
            if neighbours_Uk[group_N[i], s] < 0:
                continue
            theirs = neighbours_Uk[group_N[neighbours_Uk[group_N[i], s]]]
            for t in range(k):
                if theirs[t] == i:
                    flags_Nk[i, s] = IN_HALF if s < half and t < half else 1
                    break


@njit(cache=True, nogil=True)
def _sets(start: int, stop: int, half: int, neighbours_Uk: NDArray, group_N: NDArray, flags_Nk: NDArray) -> tuple[NDArray, NDArray]:
    """R* of rows start..stop: (members per row, members)."""
    count, k = flags_Nk.shape
    lengths = np.zeros(stop - start, np.int64)
    members = np.empty((stop - start) * k * (half + 1), np.int32)
    reciprocal_of = np.full(count, -1, np.int32)  # the row whose R(i, k) last held this point
    member_of = np.full(count, -1, np.int32)  # the same of R*(i)
    at = 0
    for i in range(start, stop):
        begin = at
        mine = neighbours_Uk[group_N[i]]
        for s in range(k):
            if flags_Nk[i, s]:
                reciprocal_of[mine[s]] = i
                member_of[mine[s]] = i
                members[at] = mine[s]
                at += 1
        for c in members[begin:at]:
            theirs = neighbours_Uk[group_N[c]]
            size = 0
            common = 0
            for t in range(half):
                if flags_Nk[c, t] == IN_HALF:
                    size += 1
                    common += reciprocal_of[theirs[t]] == i
            if 3 * common <= 2 * size:
                continue
            for t in range(half):
                if flags_Nk[c, t] == IN_HALF and member_of[theirs[t]] != i:
                    member_of[theirs[t]] = i
                    members[at] = theirs[t]
                    at += 1
        lengths[i - start] = at - begin
    return lengths, members[:at].copy()


@njit(cache=True, nogil=True)
def _softmax(
    start: int,
    lengths: NDArray,
    members: NDArray,
    group_N: NDArray,
    flags_Nk: NDArray,
    squared_Uk: NDArray,
    x_ND: NDArray,
    inverse_norms_N: NDArray,
) -> NDArray:
    """Values of the rows from `start` on, whose members `_sets` found: the search knows d² of those in R, which come first."""
    values = np.empty(members.shape[0], np.float64)
    unit_D = np.empty(x_ND.shape[1], np.float64)
    lanes = np.zeros(LANES)
    begin = 0
    for row in range(lengths.shape[0]):
        i = start + row
        end = begin + lengths[row]
        at = begin
        for s in range(flags_Nk.shape[1]):
            if flags_Nk[i, s]:
                values[at] = squared_Uk[group_N[i], s]
                at += 1
        if at < end:
            normalized_row(x_ND[i], inverse_norms_N[i], unit_D)
            for e in range(at, end):
                values[e] = squared_distance(unit_D, x_ND[members[e]], inverse_norms_N[members[e]], lanes)
        total = 0.0
        for e in range(begin, end):
            values[e] = decay(values[e])
            total += values[e]
        for e in range(begin, end):
            values[e] /= total
        begin = end
    return values


@njit(cache=True, nogil=True)
def _expand_queries(
    start: int, stop: int, nearest_Uq: NDArray, indptr: NDArray, indices: NDArray, data: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    room = 0
    for u in range(start, stop):
        for j in nearest_Uq[u]:
            if j >= 0:
                room += indptr[j + 1] - indptr[j]
    lengths = np.zeros(stop - start, np.int64)
    columns = np.empty(room, np.int32)
    values = np.empty(room, np.float64)
    sums = np.zeros(indptr.shape[0] - 1, np.float64)
    at = 0
    for u in range(start, stop):
        begin = at
        found = 0
        for j in nearest_Uq[u]:
            if j < 0:
                continue
            found += 1
            for e in range(indptr[j], indptr[j + 1]):
                if sums[indices[e]] == 0.0:
                    columns[at] = indices[e]
                    at += 1
                sums[indices[e]] += data[e]
        for e in range(begin, at):
            values[e] = sums[columns[e]] / found
            sums[columns[e]] = 0.0
        lengths[u - start] = at - begin
    return lengths, columns[:at].copy(), values[:at].copy()

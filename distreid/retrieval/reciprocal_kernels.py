"""Compiled parts of the k-reciprocal encoding: every kernel works on a block of rows and returns that block's piece of a CSR."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from distreid.retrieval.distances import LANES, normalized_row, squared_distance

IN_HALF = 2  # flag of a neighbour that is reciprocal within the half list too; 1: within the whole list only; 0: not reciprocal


@njit(cache=True, nogil=True)
def reciprocity(start: int, stop: int, half: int, neighbours_Uk: NDArray, group_N: NDArray, flags_Nk: NDArray) -> None:
    """flags_Nk[i, s]: whether i is in turn among the neighbours of its s-th neighbour (see IN_HALF); 0 where it has none (−1)."""
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
def reciprocal_weights(
    start: int,
    stop: int,
    half: int,
    neighbours_Uk: NDArray,
    group_N: NDArray,
    flags_Nk: NDArray,
    squared_Uk: NDArray,
    x_ND: NDArray,
    inverse_norms_N: NDArray,
) -> tuple[NDArray, NDArray, NDArray]:
    """Rows start..stop of V: (entries per row, columns, values), the softmax of −d² over R*(i)."""
    count, k = flags_Nk.shape
    lengths = np.zeros(stop - start, np.int64)
    columns = np.empty((stop - start) * k * (half + 1), np.int32)
    values = np.empty(columns.shape[0], np.float64)
    reciprocal_of = np.full(count, -1, np.int32)  # the row whose R(i, k1) last held this point
    member_of = np.full(count, -1, np.int32)  # the same of R*(i)
    unit_D = np.empty(x_ND.shape[1], np.float64)
    lanes = np.zeros(LANES)
    at = 0
    for i in range(start, stop):
        begin = at
        mine = neighbours_Uk[group_N[i]]
        for s in range(k):
            if flags_Nk[i, s]:
                reciprocal_of[mine[s]] = i
                member_of[mine[s]] = i
                columns[at] = mine[s]
                values[at] = squared_Uk[group_N[i], s]
                at += 1
        reciprocal = at - begin
        for c in columns[begin : begin + reciprocal]:
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
                    columns[at] = theirs[t]
                    at += 1
        if at > begin + reciprocal:
            normalized_row(x_ND[i], inverse_norms_N[i], unit_D)
            for e in range(begin + reciprocal, at):
                values[e] = squared_distance(unit_D, x_ND[columns[e]], inverse_norms_N[columns[e]], lanes)
        total = 0.0
        for e in range(begin, at):
            values[e] = math.exp(-values[e])
            total += values[e]
        for e in range(begin, at):
            values[e] /= total
        lengths[i - start] = at - begin
    return lengths, columns[:at].copy(), values[:at].copy()


@njit(cache=True, nogil=True)
def expand_queries(
    start: int, stop: int, nearest_Uq: NDArray, indptr: NDArray, indices: NDArray, data: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Rows start..stop of the expanded V: the mean of the V of a row's nearest (−1: none)."""
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

"""Checks the given features and prepares what every later stage reads: norms, and which rows are copies of each other."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.retrieval import distances as kernels
from distreid.retrieval.blocks import run_blocks

ROWS = 1024


@dataclass(frozen=True)
class Prepared:
    """Features as given (never copied when they are contiguous float32 or float64) and their groups of identical rows.

    Rows whose normalised features are identical have identical neighbours and Jaccard distances, so the search and the graph
    are made for one row of each group: a set with many copies of one image costs no more than one without.

    x_ND: float32 or float64, contiguous. inverse_norms_N: float64, 1/‖f‖. group_N: int32, group of each row; groups are numbered
    by their first row. first_U: int64, first row of each group. members: rows sorted by group, `offsets_U1` where each starts.
    """

    x_ND: NDArray[np.floating]
    inverse_norms_N: NDArray[np.float64]
    group_N: NDArray[np.int32]
    first_U: NDArray[np.int64]
    members_N: NDArray[np.int32]
    offsets_U1: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each group."""
        return np.diff(self.offsets_U1)


def prepare(features_ND: NDArray[np.floating], k1: int, threads: int, camids_N: NDArray[np.integer] | None = None) -> Prepared:
    """Checked features; with `camids_N`, rows are copies of each other only within a camera.

    UserError (one line, naming the first bad row) for what `with_norms` does not take, too few rows, nothing but copies.
    """
    x_ND, inverse_norms_N = with_norms(features_ND, threads)
    count = len(x_ND)
    if count <= k1:
        raise UserError(f"{count} features are too few for k1 = {k1} neighbours: give more than k1 features or a smaller k1")
    hashes_N = np.empty(count, np.uint64)
    run_blocks(partial(_hash, x_ND, inverse_norms_N, hashes_N), count, ROWS, threads)
    first_N = _first_copies(x_ND, inverse_norms_N, hashes_N)
    if not first_N.any():
        raise UserError(f"all {count} features are identical: the network has collapsed, or the file is not what it should be")
    if camids_N is not None:
        cameras, camera_N = np.unique(camids_N, return_inverse=True)
        _, first_of_both, both_N = np.unique(first_N * len(cameras) + camera_N, return_index=True, return_inverse=True)
        first_N = first_of_both[both_N]
    return Prepared(x_ND, inverse_norms_N, *_groups(first_N))


def with_norms(features_ND: NDArray[np.floating], threads: int) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """(features as contiguous float32 or float64, 1/‖f‖ in float64). UserError for NaN, inf, zero rows, wrong types."""
    features_ND = np.asarray(features_ND)
    if features_ND.ndim != 2 or features_ND.shape[1] == 0:
        raise UserError(f"features must be an array [N, D], not one of shape {list(features_ND.shape)}")
    if features_ND.dtype not in (np.float16, np.float32, np.float64):
        raise UserError(f"features must be float16, float32 or float64, not {features_ND.dtype}")
    # float16 is widened (numba has none on CPUs): exact, and still linear memory.
    wide = np.float64 if features_ND.dtype == np.float64 else np.float32
    x_ND: NDArray[np.floating] = np.ascontiguousarray(features_ND, dtype=wide)
    norms_N = np.empty(len(x_ND))
    run_blocks(lambda start, stop: kernels.squared_norms(x_ND, start, stop, norms_N), len(x_ND), ROWS, threads)
    _check_norms(x_ND, norms_N)
    return x_ND, 1 / np.sqrt(norms_N)


def subset(prepared: Prepared, kept_U: NDArray[np.bool_]) -> tuple[Prepared, NDArray[np.int64]]:
    """The rows of some groups as a set of their own (copied), and which rows of the whole they are (ascending)."""
    rows_n = np.flatnonzero(kept_U[prepared.group_N])
    first_n = np.searchsorted(rows_n, prepared.first_U[prepared.group_N[rows_n]])
    return Prepared(prepared.x_ND[rows_n], prepared.inverse_norms_N[rows_n], *_groups(first_n)), rows_n


def _hash(x_ND: NDArray, inverse_norms_N: NDArray, out_N: NDArray, start: int, stop: int) -> None:
    kernels.row_hashes(x_ND, inverse_norms_N, start, stop, out_N)


def _check_norms(x_ND: NDArray, norms_N: NDArray[np.float64]) -> None:
    """norms_N: squared norms."""
    broken = np.flatnonzero(~np.isfinite(norms_N))
    if len(broken):
        row = broken[0]
        what = "NaN or inf" if not np.isfinite(x_ND[row]).all() else "values too large to square"
        raise UserError(f"{len(broken)} of {len(norms_N)} features hold {what} (first: row {row}): mend or drop these rows")
    zero = np.flatnonzero(norms_N < np.finfo(np.float64).tiny)
    if len(zero):
        raise UserError(f"{len(zero)} of {len(norms_N)} features are zero vectors (first: row {zero[0]}): mend or drop these rows")


def _first_copies(x_ND: NDArray, inverse_norms_N: NDArray[np.float64], hashes_N: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row the first row that is identical after normalisation."""
    first_N = np.arange(len(hashes_N))
    order_N = np.argsort(hashes_N, kind="stable")
    kernels.first_copies(x_ND, inverse_norms_N, hashes_N, order_N, first_N)
    return first_N


def _groups(
    first_N: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """(group_N, first_U, members_N, offsets_U1), given the first row of each row's group."""
    first_U, group_N = np.unique(first_N, return_inverse=True)
    members_N = np.argsort(group_N, kind="stable").astype(np.int32)
    offsets_U1 = np.concatenate([[0], np.cumsum(np.bincount(group_N, minlength=len(first_U)))])
    return group_N.astype(np.int32), first_U, members_N, offsets_U1

"""Exact k nearest neighbours in linear memory: half of one low-precision product finds candidates, float64 ranks them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distreid.common.machine import bf16_in_hardware, look
from distreid.retrieval import neighbour_kernels as kernels
from distreid.retrieval.blocks import Progress, blocks, run_blocks
from distreid.retrieval.lists import NONE, Neighbours
from distreid.retrieval.prepare import Prepared
from distreid.retrieval.products import full_float32

Precision = Literal["auto", "bfloat16", "float32"]

# Columns added to the product: h in three parts, and three ones; padded, since the matrix units like widths divisible by 32.
EXTRA = 32
# Rows × columns of one product: 32 MB of bfloat16. The shapes change speed only, never the result. A power of two of columns would
# put all entries of a column into the same few cache lines.
BLOCK_ROWS = 1024
BLOCK_COLUMNS = 16352


@dataclass(frozen=True)
class LowPrecision:
    """Centred normalised features in low precision, with what is needed to bound the error of distances made from them.

    a_UW: [U, D + EXTRA]: ã (the rounded features), then h = ‖ã‖²/2 in three parts, then three ones. A left operand made by
    `left` gives h_i + h_j − ã_i·ã_j = ‖ã_i − ã_j‖²/2 in one product, symmetric in i and j.

    The bound. With r = ‖a − ã‖ (known), the true distance d and d̃ = ‖ã_i − ã_j‖ differ by at most r_i + r_j (triangle inequality):
    `slack_U` is r_i + max r. The product's float32 accumulation adds at most `noise_U` to d̃²/2 (terms × 2⁻²⁴ × sum of the
    magnitudes, whatever the order), the rounding of its result to nearest a relative `rounding`. So if k points lie within T of
    point i, a point whose computed d̃²/2 exceeds ((T + slack)²/2 + noise)·(1 + rounding) is farther than T and not wanted.
    """

    a_UW: Tensor
    slack_U: NDArray[np.float64]
    noise_U: NDArray[np.float64]
    rounding: float

    def left(self, rows: slice | Tensor) -> Tensor:
        """Some rows as left operand: −ã, three ones, h."""
        dim = self.a_UW.shape[1] - EXTRA
        left_RW = self.a_UW[rows].clone()
        left_RW[:, :dim].neg_()
        h, ones = left_RW[:, dim : dim + 3].clone(), left_RW[:, dim + 3 : dim + 6].clone()
        left_RW[:, dim : dim + 3], left_RW[:, dim + 3 : dim + 6] = ones, h
        return left_RW


def round_features(prepared: Prepared, dtype: torch.dtype, device: torch.device | str = "cpu") -> LowPrecision:
    """The left and right operand of the products and their error bound, block by block."""
    first_U, dim = prepared.first_U, prepared.x_ND.shape[1]
    count = len(first_U)

    def unit(part: slice) -> Tensor:
        rows = first_U[part]
        x = torch.from_numpy(prepared.x_ND[rows]).to(device)
        return x.double() * torch.from_numpy(prepared.inverse_norms_N[rows, None]).to(device)

    # Distances do not change when a constant is taken off; rounding errors shrink, for features of one network lie close together.
    # Any constant is right, a mean of about a thousand rows is near enough.
    sample = slice(None, None, max(count // BLOCK_ROWS, 1))
    mean_D = unit(sample).mean(0)
    a_UW = torch.zeros(count, dim + EXTRA, dtype=dtype, device=device)
    a_UW[:, dim + 3 : dim + 6] = 1
    residual_U, h_U = np.empty(count), np.empty(count)
    for start, stop in blocks(count, BLOCK_ROWS):
        exact = unit(slice(start, stop)) - mean_D
        a_UW[start:stop, :dim] = exact
        low = a_UW[start:stop, :dim].double()
        residual_U[start:stop] = exact.sub_(low).square_().sum(1).sqrt().cpu().numpy()
        h = low.square_().sum(1) / 2
        h_U[start:stop] = h.cpu().numpy()
        for part in range(3):
            a_UW[start:stop, dim + part] = h
            h = h - a_UW[start:stop, dim + part].double()
    norm_U = np.sqrt(2 * h_U)
    slack_U = residual_U + residual_U.max() + 1e-9
    unit_error = 2.0**-24
    magnitude_U = norm_U * norm_U.max() + h_U + h_U.max()
    noise_U = 1.1 * (dim + EXTRA + 4) * unit_error * magnitude_U + 1e-12
    return LowPrecision(a_UW, slack_U, noise_U, rounding=1.01 * (2.0**-8 if dtype == torch.bfloat16 else 2.0**-24))


def nearest(
    prepared: Prepared,
    k: int,
    *,
    apart_U: NDArray[np.int64] | None = None,
    groups: tuple[int, int] | None = None,
    precision: Precision = "auto",
    threads: int = 1,
    block_rows: int = BLOCK_ROWS,
    block_columns: int = BLOCK_COLUMNS,
    progress: Progress | None = None,
) -> Neighbours:
    """For each group of identical rows its k nearest rows of the set, itself and its copies included, by (float64 d², row), and
    their d². The same for every precision, block size and number of threads.

    apart_U: groups with the same number here are not each other's neighbours (neither is a group its own).
    groups: only these groups (start, stop) are wanted; the result has their rows only.
    """
    count = len(prepared.first_U)
    kept = min(k, count)
    first, last = groups or (0, count)
    half = precision == "bfloat16" or (precision == "auto" and bf16_in_hardware(look(), "cpu")[0])
    low = round_features(prepared, torch.bfloat16 if half else torch.float32)
    integer, shift = (torch.int16, 16) if half else (torch.int32, 0)
    capacity = 12 * kept + 64
    key_type = np.int16 if half else np.int32
    largest_finite = 0x7F7FFFFF >> shift
    table = (
        np.empty((count, capacity), key_type),  # not touched, hence not in memory, outside of first..last
        np.empty((count, capacity), np.int32),
        np.zeros(count, np.int32),
        np.full(count, largest_finite, key_type),
    )
    bound = (low.slack_U, low.noise_U, low.rounding, shift)
    data = (prepared.x_ND, prepared.inverse_norms_N, prepared.first_U)
    apart = None if apart_U is None else torch.from_numpy(apart_U)
    buffer = torch.empty(block_rows * min(block_columns, count), dtype=low.a_UW.dtype)
    with full_float32():
        for row0 in range(first, last, block_rows):
            row1 = min(row0 + block_rows, last)
            left_RW = low.left(slice(row0, row1))
            # The product is symmetric: for the whole set its upper half is enough. The first block of columns is then the diagonal
            # one: it holds both halves, so its columns need no second look.
            for col0 in range(0 if groups else row0, count, block_columns):
                col1 = min(col0 + block_columns, count)
                product_RC = buffer[: (row1 - row0) * (col1 - col0)].view(row1 - row0, col1 - col0)
                torch.mm(left_RW, low.a_UW[col0:col1].T, out=product_RC)
                if apart is not None:
                    product_RC.masked_fill_(apart[row0:row1, None] == apart[col0:col1], torch.inf)
                seen = col1 - col0 if groups else max(row1 - col0, 0)
                _collect(product_RC.view(integer).numpy(), row0, col0, seen, kept, threads, table, bound, data)
            if progress is not None:
                progress(row1 - first, last - first)
    rows_Uk, squared_Uk = np.full((count, k), NONE, np.int32), np.full((count, k), np.inf)
    run_blocks(
        lambda start, stop: kernels.rank(first + start, first + stop, kept, table, bound, data, rows_Uk, squared_Uk),
        last - first,
        256,
        threads,
    )
    return to_rows(prepared, rows_Uk[first:last], squared_Uk[first:last])


def to_rows(prepared: Prepared, groups_Uk: NDArray[np.int32], squared_Uk: NDArray[np.float64]) -> Neighbours:
    """Nearest groups as nearest rows."""
    if len(prepared.first_U) == len(prepared.group_N):
        return groups_Uk, squared_Uk
    rows_Uk, row_squared_Uk = np.full(groups_Uk.shape, NONE, np.int32), np.full(groups_Uk.shape, np.inf)
    members = prepared.members_N, prepared.offsets_U1
    kernels.spread_groups(0, len(groups_Uk), groups_Uk, squared_Uk, *members, rows_Uk, row_squared_Uk)
    return rows_Uk, row_squared_Uk


def _collect(
    keys_RC: NDArray, row0: int, col0: int, skip: int, k: int, threads: int, table: tuple, bound: tuple, data: tuple
) -> None:
    """Both views of a block; its first `skip` columns are not looked at as such."""
    height, width = keys_RC.shape
    run_blocks(
        lambda start, stop: kernels.collect_rows(keys_RC, row0, col0, start, stop, k, table, bound, data), height, 128, threads
    )
    run_blocks(
        lambda start, stop: kernels.collect_columns(keys_RC, row0, col0, skip + start, skip + stop, k, table, bound, data),
        max(width - skip, 0),
        2048,
        threads,
    )

"""Matrix products in blocks of queries: how many rows, how precise, on what device, and loops over them in threads."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.errors import UserError

Progress = Callable[[int, int], None]
_BLOCK_BYTES = 1 << 27  # of float32 scores kept at a time


def block_rows(columns: int) -> int:
    """Rows whose float32 scores against `columns` entries take at most 128 MB, up to 1024."""
    return max(1, min(1024, _BLOCK_BYTES // (4 * columns)))


def run_slices(work: Callable[[int, int], None], rows: int) -> None:
    """Calls work(begin, end) on even slices of the rows, as many at a time as torch may use threads."""
    threads = min(torch.get_num_threads(), rows)
    edges = np.linspace(0, rows, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))


def as_tensor(array: NDArray[Any], device: str | torch.device) -> torch.Tensor:
    """The array on the device, sharing memory where it can. Raises UserError where torch sees no such device."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device}: torch sees no GPU here; use cpu")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing here writes to it
        return torch.from_numpy(array).to(device)


@contextmanager
def full_float32() -> Iterator[None]:
    """Products with float32's full precision inside, even where training has turned TF32 or bfloat16 on."""
    matmuls = (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
    switches: list[Any] = [m for m in matmuls if hasattr(m, "fp32_precision")]
    before = [m.fp32_precision for m in switches]
    before_all = torch.get_float32_matmul_precision() if not switches else ""  # torch before 2.9 has this one only
    try:
        for m in switches:
            m.fp32_precision = "ieee"
        if not switches:
            torch.set_float32_matmul_precision("highest")
        yield
    finally:
        for m, value in zip(switches, before, strict=True):
            m.fp32_precision = value
        if not switches:
            torch.set_float32_matmul_precision(before_all)

"""Matrix products in blocks: how many rows at a time, how precise, on what device."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray

from distreid.common.errors import UserError

_BLOCK_BYTES = 1 << 27  # of float32 scores kept at a time
_UNIT = 2.0**-24  # float32's unit roundoff


def block_rows(columns: int) -> int:
    """Rows whose float32 scores against `columns` entries take at most 128 MB, up to 1024."""
    return max(1, min(1024, _BLOCK_BYTES // (4 * columns)))


def unit_dot_error(dimensions: int) -> float:
    """How far a float32 dot product of two unit vectors lies from the exact one at most, whatever the order of the sum: d·u always,
    and 8·sqrt(d)·u but for a probability of 2·exp(-32) (Higham & Mary, SISC 2019); 8 more roundings for what makes the vectors."""
    return (min(dimensions, 8 * dimensions**0.5) + 8) * _UNIT


def as_tensor(array: NDArray[Any], device: str | torch.device) -> torch.Tensor:
    """The array on the device, sharing memory where it can; nobody may write to it. UserError where torch sees no such device."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device}: torch sees no GPU here; use cpu")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # those of an object store are not
        return torch.from_numpy(array).to(device)


@contextmanager
def full_float32() -> Iterator[None]:
    """Products with float32's full precision inside, even where training has turned TF32 or bfloat16 on: error bounds need it."""
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

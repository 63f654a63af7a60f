"""The GPU engine's kernels on a CPU: compiled by g++ behind shim.h, launched as on a GPU, with numpy in CuPy's place."""

import ctypes
import hashlib
import mmap
import shutil
import subprocess
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distreid.labels.gpu import Clustering, KernelStages
from distreid.retrieval.gpu.backend import SCRATCH_BYTES, rmm_peak
from distreid.retrieval.gpu.launch import SOURCE, TYPES, Kernels, checked, real_of, signatures

SHIM = Path(__file__).with_name("shim.h")
C_NAMES = {kind: name for name, kind in TYPES.items()}
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++: the GPU's kernels cannot be compiled for the CPU")


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="distreid-kernels-")


@cache
def library(real: str, source: str = "") -> ctypes.CDLL:
    """kernels.cu (or another text in its place) as a library with one entry point a kernel; compiled once a session."""
    source = source or SOURCE.read_text(encoding="utf-8")
    code = f'#include "{SHIM}"\n#define REAL {real}\n{source}\n'
    for name, parameters in signatures(real).items():
        kinds = [C_NAMES[p.kind] + ("*" if p.pointer else "") for p in parameters]
        given = ", ".join(f"*({kind}*)a[{at}]" for at, kind in enumerate(kinds))
        code += f'extern "C" void call_{name}(void** a) {{ {name}({given}); }}\n'
    out = Path(_folder().name) / f"{hashlib.sha256(code.encode()).hexdigest()[:16]}.so"
    flags = ["-x", "c++", "-std=c++17", "-O1", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-w", "-fPIC", "-shared"]
    subprocess.run(["g++", *flags, "-o", out, "-"], input=code, text=True, check=True, timeout=120)
    return ctypes.CDLL(str(out))


class CpuKernels:
    """seed: an order of threads; resident: blocks that run at once (shim.h). guard: arrays end where a page without access begins,
    so that reading or writing beyond them is a crash."""

    def __init__(self, real: str, seed: int, resident: int, guard: bool, source: str) -> None:
        self._parameters, self._library = signatures(real), library(real, source)
        self._seed, self._resident, self._guard = seed, resident, guard

    def __call__(self, name: str, blocks: int, threads: int, *arguments: Any, shared: int = 0) -> None:
        assert threads % 32 == 0 and 0 <= blocks < 2**31 and shared <= 48 << 10
        parameters = self._parameters[name]
        given = list(checked(name, parameters, arguments))
        if not blocks:
            return
        held = [guarded(array) if self._guard and isinstance(array, np.ndarray) else array for array in given]
        cells = [
            ctypes.c_void_p(None if value is None else value.ctypes.data) if parameter.pointer else np.array(value)
            for value, parameter in zip(held, parameters, strict=True)
        ]
        addresses = [ctypes.addressof(cell) if isinstance(cell, ctypes.c_void_p) else cell.ctypes.data for cell in cells]
        code = self._library.shim_run(
            getattr(self._library, f"call_{name}"),
            (ctypes.c_void_p * len(addresses))(*addresses),
            blocks,
            threads,
            ctypes.c_size_t(shared),
            self._seed,
            self._resident,
        )
        assert code == 0, f"{name}: threads part at a barrier (shim.h: {code})"
        for array, copy, parameter in zip(given, held, parameters, strict=True):
            if parameter.written and copy is not array:
                array[...] = copy


def guarded(array: np.ndarray) -> np.ndarray:
    """A copy that ends where a page without any access begins."""
    size = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    room = mmap.mmap(-1, size + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    copy = np.frombuffer(room, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
    copy[...] = array
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + size), mmap.PAGESIZE, 0) == 0
    return copy


@dataclass
class NumpyBackend:
    """`distreid.retrieval.gpu.Backend` on a CPU. free: what the engine is told that it may take, in bytes."""

    seed: int = 0
    resident: int = 1
    guard: bool = False
    threads: int = 32
    scratch_bytes: int = SCRATCH_BYTES
    free: int = 1 << 30
    source: str = ""
    xp: Any = np
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    released: int = 0

    def kernels(self, dtype: Any) -> Kernels:
        return CpuKernels(real_of(dtype), self.seed, self.resident, self.guard, self.source)

    def array(self, tensor: torch.Tensor) -> np.ndarray:
        return tensor.numpy()

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array)

    def host(self, array: np.ndarray) -> np.ndarray:
        return array

    def scope(self) -> AbstractContextManager[None]:
        return nullcontext()

    def free_bytes(self) -> int:
        return self.free

    def peaks(self) -> dict[str, int]:
        return {"cupy": 3, "rmm": rmm_peak(), "torch": 4}

    def release(self) -> None:
        self.released += 1


def shim_stages(clustering: Clustering | None = None, **how: Any) -> KernelStages:
    """The GPU's engine on the CPU; `how`: of `NumpyBackend`."""
    return KernelStages(NumpyBackend(**how), clustering or Clustering())


def few_blocks(blocks: int, numbers: int) -> int:
    """`free` for which so many blocks take rows of so many numbers in turn."""
    return 4 * 12 * numbers * blocks

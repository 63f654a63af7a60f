"""What the stages need of an array library: numpy's functions, kernels, and the way to torch and to the host and back."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.retrieval.gpu.launch import CupyKernels, Kernels, real_of

P = ParamSpec("P")
T = TypeVar("T")

# At most so much is taken for the rows of N numbers that each block of threads sums in; less where less is free.
SCRATCH_BYTES = 1 << 30


class Backend(Protocol):
    """CuPy's, or that of the tests: numpy, and the same kernels behind a C++ compiler."""

    xp: Any  # cupy, or numpy
    device: torch.device  # the same device as torch names it
    threads: int  # of a block
    scratch_bytes: int  # at most so much is taken for scratch

    def kernels(self, dtype: Any) -> Kernels:
        """The kernels for features of this type."""
        ...

    def array(self, tensor: torch.Tensor) -> Any:
        """The tensor's memory as an array; nothing is copied."""
        ...

    def tensor(self, array: Any) -> torch.Tensor:
        """The array's memory as a tensor; nothing is copied."""
        ...

    def host(self, array: Any) -> NDArray[Any]:
        """The array as numpy's."""
        ...

    def scope(self) -> AbstractContextManager[None]:
        """Within it, arrays are made on this device, and computed in one order with torch's."""
        ...

    def free_bytes(self) -> int:
        """Memory that could still be had."""
        ...

    def peaks(self) -> dict[str, int]:
        """The most memory that was held so far, by who held it."""
        ...

    def release(self) -> None:
        """Give back what is kept for later."""
        ...


def count_rmm() -> None:
    """Have RMM, by which cuML takes memory, count it. A figure only: where that fails, labels are made without."""
    with suppress(Exception):
        import rmm.statistics

        rmm.statistics.enable_statistics()


def rmm_peak() -> int:
    """The most bytes that cuML held at once; 0 where nobody counts."""
    module = sys.modules.get("rmm.statistics")
    counted = None if module is None else module.get_statistics()
    return 0 if counted is None else int(counted.peak_bytes)


class CupyBackend:
    """One CUDA device by CuPy, beside torch: each has its own pool of memory, arrays pass between them by DLPack."""

    def __init__(self, device: torch.device, *, threads: int = 128, scratch_bytes: int = SCRATCH_BYTES) -> None:
        import cupy

        index = torch.cuda.current_device() if device.index is None else device.index
        self.threads, self.scratch_bytes = threads, scratch_bytes
        self.xp, self.device = cupy, torch.device("cuda", index)
        self._peak, self._kernels = 0, dict[str, Kernels]()

    def kernels(self, dtype: Any) -> Kernels:
        real = real_of(dtype)
        if real not in self._kernels:
            self._kernels[real] = CupyKernels(self.xp, real)
        return self._kernels[real]

    def array(self, tensor: torch.Tensor) -> Any:
        return self.xp.from_dlpack(tensor)

    def tensor(self, array: Any) -> torch.Tensor:
        return torch.from_dlpack(array)

    def host(self, array: Any) -> NDArray[Any]:
        return np.asarray(array.get())

    @contextmanager
    def scope(self) -> Iterator[None]:
        # One stream for both: memory that either frees is then used again only after what the other was asked for.
        of_torch = torch.cuda.stream(torch.cuda.default_stream(self.device))
        with self.xp.cuda.Device(self.device.index), self.xp.cuda.Stream.null, of_torch:
            yield

    def free_bytes(self) -> int:
        return int(torch.cuda.mem_get_info(self.device)[0]) + int(self.xp.get_default_memory_pool().free_bytes())

    def peaks(self) -> dict[str, int]:
        self._peak = max(self._peak, int(self.xp.get_default_memory_pool().total_bytes()))
        return {"cupy": self._peak, "rmm": rmm_peak(), "torch": int(torch.cuda.max_memory_allocated(self.device))}

    def release(self) -> None:
        self.peaks()  # the pool's size is known only until it is emptied
        self.xp.get_default_memory_pool().free_all_blocks()
        self.xp.get_default_pinned_memory_pool().free_all_blocks()
        torch.cuda.empty_cache()


def scoped(stage: Callable[P, T]) -> Callable[P, T]:
    """A method within the scope of its object's ``backend``."""

    @wraps(stage)
    def within(*args: P.args, **kwargs: P.kwargs) -> T:
        stages: Any = args[0]
        with stages.backend.scope():
            return stage(*args, **kwargs)

    return within

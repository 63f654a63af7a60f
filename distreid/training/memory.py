"""Running out of memory, a GPU's or the host's, while images pass through a network."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

log = logging.getLogger(__name__)

# Of torch's allocator for CPUs and of cuBLAS and cuDNN: plain RuntimeErrors, told by their text alone.
ALLOCATORS = ("can't allocate memory", "ALLOC_FAILED")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATORS)


# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**31 - 1  # bytes at the heap's end that stay, and of the largest tensor that lies in the heap: as many as the call takes


def keep_freed() -> bool:
    """Let glibc keep what tensors on the CPU give back, for the next ones; False where there is no glibc to ask (macOS, musl).

    It gives the memory of each large tensor, and what is free at a step's end, back to the system, which clears it and gives it
    again page by page: some per cent of a training step (docs/performance.md). For the whole process and for good;
    :func:`give_back` returns what is free at the time.
    """
    libc = _glibc()
    return libc is not None and all(libc.mallopt(name, KEPT) == 1 for name in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))


def give_back() -> None:
    """Return the memory that is free to the system; tensors to come take theirs anew."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL(None)  # the process's own, by whatever name


class Gauge:
    """The most memory that this process takes of a device beyond what it took when the gauge was made.

    On a CPU what the system gives the process: tensors, and what libraries (oneDNN) keep beside them. On a GPU what torch's pool
    took; CUDA and cuDNN hold some outside of it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._before = device, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
            return
        with contextlib.suppress(OSError):  # not Linux, or a container that forbids it
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is what it is now: proc_pid_clear_refs(5)
        self._before = _resident("VmRSS") or 0

    def peak(self) -> int | None:
        """Bytes; None where the platform does not say."""
        most = torch.cuda.max_memory_reserved(self._device) if self._device.type == "cuda" else _resident("VmHWM")
        return None if most is None else max(0, most - self._before)


def _resident(name: str) -> int | None:
    """Bytes of a line of Linux' /proc/self/status."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


# Images of a forward pass where `evaluate.batch_size` is auto. On CPUs more are slower, for their maps leave the caches:
# docs/performance.md has the figures. On a GPU (unrun on one) more hide the time that starting kernels takes, up to some.
ON_CPU, ON_GPU, MOST_ON_GPU = 32, 128, 1024
PROBED = 16  # images that say how much memory one takes
SHARE = 0.5  # of the free memory: cuDNN's workspaces, labels and other workers take some as well


def usual_batch(asked: int | Literal["auto"], kind: str) -> int:
    """Images of a forward pass on a device of a kind ("cpu", "cuda") of which no more is known."""
    return asked if asked != "auto" else ON_CPU if kind == "cpu" else ON_GPU


def fitting(free: float, image: float) -> int:
    """The largest power of two of images of so many bytes each that take a fair share of the free ones; within bounds.

    Only powers, so that a little more or less free memory seldom changes it.
    """
    holds = max(1, int(SHARE * free / max(1.0, image)))
    return max(PROBED, min(MOST_ON_GPU, 1 << holds.bit_length() - 1))


class PassSize:
    """How many images one forward pass takes: decided at the first one, fewer for good once memory has run out.

    Args:
        asked: `evaluate.batch_size`.
    """

    def __init__(self, asked: int | Literal["auto"]) -> None:
        self._asked, self._most = asked, 0

    def find(self, forward: Callable[[Tensor], Tensor], device: torch.device, height: int, width: int) -> int:
        """``forward`` takes images [B, 3, height, width]; it is tried where that is how to know."""
        if not self._most:
            probe = self._asked == "auto" and device.type == "cuda"
            self._most = self._probe(forward, device, height, width) if probe else usual_batch(self._asked, device.type)
        return self._most

    def halve(self, size: int) -> None:
        """Memory did not hold so many images."""
        self._most = size // 2

    def _probe(self, forward: Callable[[Tensor], Tensor], device: torch.device, height: int, width: int) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            forward(torch.zeros(PROBED, 3, height, width, device=device))
        except Exception as error:
            if not ran_out(error):
                raise
            return PROBED  # which is halved when it comes to it
        taken = torch.cuda.max_memory_allocated(device) - before
        pooled = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return fitting(torch.cuda.mem_get_info(device)[0] + pooled, taken / PROBED)


class InParts:
    """Applies a function of images one by one (no statistics of a batch) to as many at once as memory holds: half as many each time
    that it ran out."""

    def __init__(self, function: Callable[[Tensor], Tensor], size: PassSize) -> None:
        self._function, self._size, self._first, self._most = function, size, 0, 0  # most: images in one pass; 0: no limit met

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        parts, done = [], 0
        while done < len(x_BCHW):
            size = min(self._most or len(x_BCHW), len(x_BCHW) - done)
            try:
                parts.append(self._function(x_BCHW[done : done + size]))
                done += size
                continue
            except Exception as error:
                if size == 1 or not ran_out(error):
                    raise
            # Out of the handler, whose traceback holds what is to be freed.
            self._first, self._most = self._first or size, size // 2
            self._size.halve(size)
            if x_BCHW.is_cuda:
                torch.cuda.empty_cache()
        return torch.cat(parts)

    def tell(self) -> None:
        """Say what was found, where memory ran out."""
        if self._most:
            log.warning(
                "out of memory with %d images in a pass, went on with %d: evaluate.batch_size=%d",
                self._first,
                self._most,
                self._most,
            )

"""Running out of memory, a GPU's or the host's, while images pass through a network."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

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


class InParts:
    """Applies a function of images one by one (no statistics of a batch) to as many at once as memory holds: half as many each time
    that it ran out."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function, self._most, self._first = function, 0, 0  # most: images in one pass; 0: no limit met

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

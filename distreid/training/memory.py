"""Running out of memory, a GPU's or the host's, while images pass through a network."""

from __future__ import annotations

import logging
from collections.abc import Callable

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

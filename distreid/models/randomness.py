"""Dropout and drop path whose masks are a function of the step and of an image's place in the global batch.

torch draws a mask for the rows that one process holds, from a generator whose place depends on what was drawn before: another
number of workers, or a run continued in the middle of an epoch, would train another network. Here the mask of the whole global
batch is drawn, on the CPU, from a seed that names the step, the module and the pass; each process takes its own rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distreid.common.transfer import send

# Of torch, torchvision and timm: a unit of each image, whole channels of it, or the whole of a residual branch.
UNITS = {"Dropout": 0, "Dropout1d": 2, "Dropout2d": 2, "Dropout3d": 2, "StochasticDepth": 1, "DropPath": 1}


class Rows:
    """Which rows of the global batch of which step a process holds."""

    def __init__(self) -> None:
        self.seed: tuple[int, ...] | None = None  # None: nobody has said; then torch's own generator draws
        self.mine, self.total = slice(0, 0), 0

    def begin_step(self, seed: Sequence[int], mine: slice, total: int) -> None:
        self.seed, self.mine, self.total = tuple(seed), mine, total

    def __deepcopy__(self, memo: Any) -> Rows:
        return self  # a strategy's copy of the network trains in the same steps


class PlacedDropout(nn.Module):
    """Drops each unit with probability ``p`` and scales the rest by 1 / (1 - p).

    Args:
        dims: leading dimensions of the input that have a mask of their own; 0: all.
        number: the module's, so that each draws its own masks.
    """

    def __init__(self, p: float, dims: int, rows: Rows, number: int) -> None:
        super().__init__()
        self.p, self._dims, self._rows, self._number = p, dims, rows, number
        self._seed: tuple[int, ...] | None = None  # of the step that is under way here
        self._seen = 0  # rows of this process that have passed in it

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...], consecutive rows of this process's slice: a part of it, all of it, or several times all of it."""
        if not self.training or self.p == 0:
            return x
        shape = x.shape[: self._dims or x.ndim]
        keep = send(self._draw(shape), x.device).view(*shape, *[1] * (x.ndim - len(shape)))
        return x * keep / (1 - self.p) if self.p < 1 else x * 0

    def _draw(self, shape: torch.Size) -> Tensor:
        """Which units stay, bool."""
        rows = self._rows
        if rows.seed is None:
            return torch.rand(shape) >= self.p
        if rows.seed != self._seed:
            self._seed, self._seen = rows.seed, 0
        held, parts, left = rows.mine.stop - rows.mine.start, [], shape[0]
        while left:
            passes, start = divmod(self._seen, held)
            count = min(left, held - start)
            seed = np.random.SeedSequence([*rows.seed, self._number, passes]).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(seed) >> 1)
            first = rows.mine.start + start
            whole = torch.rand(rows.total, *shape[1:], generator=generator)
            parts.append(whole[first : first + count] >= self.p)
            self._seen, left = self._seen + count, left - count
        return torch.cat(parts)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def place_randomness(model: nn.Module) -> Rows:
    """Put :class:`PlacedDropout` in the place of every dropout and drop path of ``model``; say each step's rows to what it returns.

    The state dict stays as it is. Other modules that draw (DropBlock, say) are left to torch's generator.
    """
    rows, number = Rows(), 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            dims = UNITS.get(type(child).__name__)
            if dims is None or getattr(child, "mode", "row") != "row":  # StochasticDepth of a batch as a whole
                continue
            probability = next((getattr(child, key) for key in ("p", "drop_prob") if hasattr(child, key)), 0.0)
            setattr(parent, name, PlacedDropout(float(probability or 0.0), dims, rows, number))
            number += 1
    return rows

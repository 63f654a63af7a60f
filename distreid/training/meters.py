"""What a run measures of itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from distreid.training.process_group import ProcessGroup


class LossMeter:
    """Running means of the loss terms, kept on the device."""

    def __init__(self, team: ProcessGroup) -> None:
        self.team, self.count = team, 0
        self.sums: dict[str, Tensor] = {}
        self.mean_seen: dict[str, float] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach()
        self.count += 1

    def mean(self) -> dict[str, float]:
        """Means over the steps so far and over the processes."""
        values = self.team.mean(torch.stack(list(self.sums.values())).double()) / self.count
        self.mean_seen = dict(zip(self.sums, values.tolist(), strict=True))
        return self.mean_seen


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that the block takes to ``seconds[name]``."""
    started = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started

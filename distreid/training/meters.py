"""What a run measures of itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from distreid.data.sampling import BatchPlan
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


class EpochMeter:
    """Losses and pace of one epoch.

    Args:
        rows: this process's slice of each of the plan's batches.
        first: the step that the epoch begins, or is continued, at.
    """

    def __init__(self, processes: ProcessGroup, plan: BatchPlan, rows: slice, *, first: int) -> None:
        self._losses, self._first, self._started = LossMeter(processes), first, time.perf_counter()
        self._world, self._images, self._mine = processes.world, plan.index_SB[first:].size, rows.stop - rows.start
        # 1, unless nodes were lost and what is left cannot share the batch equally.
        self.weight = self._mine * processes.world / plan.index_SB.shape[1]

    def add(self, parts: Sequence[dict[str, Tensor]]) -> None:
        """The loss terms of each part of a step's slice."""
        for terms in parts:
            self._losses.add(terms)

    def mean(self) -> dict[str, float]:
        """The losses' means over the steps so far and over the processes, which all call it."""
        return self._losses.mean()

    @property
    def losses(self) -> dict[str, float]:
        """What :meth:`mean` gave last."""
        return self._losses.mean_seen

    def speed(self, done: int) -> float:
        """Images a second of this process, by step ``done``."""
        return (done - self._first) * self._mine / (time.perf_counter() - self._started)

    def pace(self) -> dict[str, float]:
        """Of all processes together, at the epoch's end."""
        elapsed = time.perf_counter() - self._started
        return {"images_per_second": self._images / elapsed, "seconds": elapsed, "workers": self._world}


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that the block takes to ``seconds[name]``."""
    started = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started

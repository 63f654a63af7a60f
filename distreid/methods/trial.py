"""Some steps of each stage of a run, and its forward passes, made for real on this machine: the seconds and bytes they take.

The method runs as it is, with the very network, losses, optimisers and loader of the configuration, and the images that are there;
labels and accuracy are made up, and nothing is written. `distreid plan --device here` stands on it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch

from distreid.config import Config
from distreid.data.loader import Batch, View
from distreid.methods.rehearsal import NOTHING, Event, Pass, Performer, Rehearsed, Stretch, perform
from distreid.methods.stand_ins import Blank
from distreid.training.counting import Work
from distreid.training.domains import DomainData
from distreid.training.features import extract
from distreid.training.loop import Trainer
from distreid.training.memory import Gauge
from distreid.training.stage import Stage

LEAST, MOST, BUDGET = 3, 12, 4.0  # calls that are timed after one that warms up: as many as take about so many seconds


@dataclass(frozen=True)
class Tried:
    """What :func:`try_out` found.

    Attributes:
        seconds: of a step or pass of each event of a run, in order; None of what is neither.
        memory: the most bytes that the process (a GPU: torch's pool) took for it, the network included; None where the platform
            does not say.
        pictured: whether the images were there to be decoded; noise stood in for them otherwise.
    """

    seconds: list[float | None]
    memory: int | None
    pictured: bool

    def given_to(self, found: Rehearsed) -> Rehearsed:
        """A rehearsal of the same configuration, with these seconds."""
        return replace(found, events=[_timed(event, took) for event, took in zip(found.events, self.seconds, strict=True)])


def try_out(config: Config, source: DomainData, target: DomainData, device: torch.device, budget: float = BUDGET) -> Tried:
    """Time a run's steps in this process, with the threads that torch has.

    Args:
        config: precision and channels_last decided. Of several workers' steps, one worker's alone.
        budget: seconds for each kind of step; three are timed in any case.

    Raises:
        UserError: as :func:`distreid.methods.rehearsal.rehearse`; or a step does not fit into the memory.
    """
    trial = _Trial(device, budget)
    config = replace(config, runtime=replace(config.runtime, strategy="ddp"))  # DeepSpeed's arithmetic is the same
    events = perform(config, source, target, trial, device).events
    seconds = [event.seconds if isinstance(event, Stretch | Pass) else None for event in events]
    pictured = not any(isinstance(domain.train.store, Blank) for domain in (source, target))
    return Tried(seconds, trial.memory(), pictured)


class _Trial(Performer):
    """Computes."""

    def __init__(self, device: torch.device, budget: float) -> None:
        super().__init__()
        self._device, self._budget = device, budget
        self._gauge: Gauge | None = None
        self._weights = 0

    def memory(self) -> int | None:
        peak = None if self._gauge is None else self._gauge.peak()
        return None if peak is None else self._weights + peak

    def train(self, trainer: Trainer[Any, Any], stage: Stage, title: str) -> Stretch:
        self._begin(trainer)
        plan = stage.plan(0)
        rows = trainer.rows(stage, plan)

        def forever() -> Generator[Batch, None, None]:
            while True:  # an epoch may be shorter than what is timed
                yield from trainer.batches(stage, plan, [0])

        trainer.model.train()
        with closing(forever()) as batches:

            def step() -> None:
                batch = next(batches)
                trainer.seed_step([0, batch.step], rows, plan)
                trainer.train_step(stage, batch, 0, len(plan), 1.0)

            took = self._seconds(step)
        size = plan.index_SB.shape[1]
        return Stretch(title, 0, 0, len(plan), size, rows.stop - rows.start, stage.group, Work(), NOTHING, 0, took)

    def features(self, trainer: Trainer[Any, Any], images: View, batch: int, *, flip: bool) -> Pass:
        self._begin(trainer)
        size, precision = trainer.config.input, trainer.context.precision

        def once() -> None:
            extract(
                trainer.model, images, slice(0, batch), height=size.height, width=size.width, batch=batch, precision=precision,
                flip=flip,
            )  # fmt: skip

        return Pass("", 0, 0, batch, Work(), NOTHING, self._seconds(once))

    def _begin(self, trainer: Trainer[Any, Any]) -> None:
        """The first step comes: libraries are loaded by now, and the network is there."""
        if self._gauge is None:
            tensors = [*trainer.model.parameters(), *trainer.model.buffers()]
            self._weights = sum(tensor.nbytes for tensor in tensors)
            self._gauge = Gauge(self._device)

    def _seconds(self, call: Callable[[], None]) -> float:
        """The median of those that are timed: what else a machine does disturbs some of them."""
        took: list[float] = []
        self._timed(call)
        while len(took) < LEAST or (sum(took) < self._budget and len(took) < MOST):
            took.append(self._timed(call))
        return statistics.median(took)

    def _timed(self, call: Callable[[], None]) -> float:
        started = time.perf_counter()
        call()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - started


def _timed(event: Event, seconds: float | None) -> Event:
    return replace(event, seconds=seconds) if isinstance(event, Stretch | Pass) else event

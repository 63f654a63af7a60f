"""A stage: a stretch of epochs with one plan, one objective and one set of optimisers. Methods bring them, the loop drives them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from distreid.data.loader import Batch
from distreid.data.sampling import BatchPlan
from distreid.training.engine import Engine

LossTerms = dict[str, Tensor]
"""Scalars by name, weighted as they are summed."""


class Stage(ABC):
    """What :meth:`distreid.training.loop.Trainer.fit` drives.

    Attributes:
        title: for the user.
        epochs: the last one's number; a resumed stage has fewer of them left.
        group: a process's slice of a batch is a number of whole groups of so many images.
        engines: what trains; the first one's learning rate is shown.
    """

    title: str
    epochs: int
    group: int
    engines: Sequence[Engine]

    @abstractmethod
    def plan(self, epoch: int) -> BatchPlan:
        """An epoch's global batches, the same in every process."""

    @abstractmethod
    def step(self, batch: Batch, epoch: int, weight: float) -> list[LossTerms]:
        """Move the weights by this process's slice of a batch. Gives the loss terms of each part that it was cut into.

        ``weight`` multiplies the terms: 1, unless nodes were lost and the rest cannot share the batch equally.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold of the optimisers. All processes call it."""

    @abstractmethod
    def diverged(self, what: str, epoch: int) -> str:
        """The line for the user when ``what`` is not finite: which settings to lower."""

    def after_epoch(self, epochs: int) -> None:  # noqa: B027 - not every stage has something to do here
        """Whatever is done between the end of the ``epochs``-th epoch and its checkpoint."""


class SingleEngineStage(Stage):
    """One network, one optimiser, one loss: all that most methods need.

    Args:
        accumulate: parts of a slice that pass through the network one after another; the weights move after the last.
    """

    def __init__(self, engine: Engine, title: str, epochs: int, group: int, accumulate: int = 1) -> None:
        self.engine, self.engines = engine, [engine]
        self.title, self.epochs, self.group, self._accumulate = title, epochs, group, accumulate

    @abstractmethod
    def loss(self, batch: Batch, epoch: int) -> LossTerms:
        """Forward: the terms of a part of a slice."""

    def step(self, batch: Batch, epoch: int, weight: float) -> list[LossTerms]:
        return [self.forward_backward(part, epoch, weight) for part in batch.split(self._accumulate)]

    def forward_backward(self, part: Batch, epoch: int, weight: float) -> LossTerms:
        terms = {name: weight * term for name, term in self.loss(part, epoch).items()}
        self.engine.step(total(terms))
        return terms

    def state(self) -> dict[str, Any]:
        return self.engine.optimizer_state()


def total(terms: LossTerms) -> Tensor:
    """The sum of the terms: what is differentiated."""
    first = next(iter(terms.values()))
    return sum(terms.values(), torch.zeros((), device=first.device))

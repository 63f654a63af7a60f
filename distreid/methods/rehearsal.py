"""A run on tensors without data: the very network, losses and optimisers of a configuration, a step of each of its stages.

Nothing is computed, read or written, so a machine without a GPU says what eight of them would do. The method is run as it is; what
it asks of the world around it (data, labels, accuracy, other processes) is made up here.
"""

from __future__ import annotations

import gc
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from distreid.config import Config
from distreid.data.loader import View
from distreid.data.sampling import shard
from distreid.data.transforms import normalize
from distreid.methods.registry import find
from distreid.methods.stand_ins import Alone, BlankEvaluator, BlankLabeler, Silent, blank
from distreid.training import RunDirectory
from distreid.training.context import Context
from distreid.training.counting import Counting, Work
from distreid.training.domains import DomainData
from distreid.training.loop import Trainer
from distreid.training.memory import usual_batch
from distreid.training.stage import Stage


@dataclass(frozen=True)
class Memory:
    """Bytes on the device of one worker.

    Attributes:
        weights: of the whole model, buffers included; gradients: of what the stage trains; states: of its optimisers.
        rest: at the worst moment of a step, all but these three: activations, batches, what operations need meanwhile.
        peak: at the worst moment of a single process's step, which holds gradients only towards its end.
    """

    weights: int
    gradients: int
    states: int
    rest: int
    peak: int


NOTHING = Memory(0, 0, 0, 0, 0)  # not counted


@dataclass(frozen=True)
class Stretch:
    """One stage of training.

    Attributes:
        title: as a run shows it. round: in which it lies.
        epochs, steps: how many epochs of how many steps.
        batch: images of a step, of all workers together; rows: of this one; group: of which rows are a multiple.
        work: of one step of one worker; seconds: that it really took (:mod:`distreid.methods.trial`), None where it was not tried.
        trained: weights that it trains, in values.
    """

    title: str
    round: int
    epochs: int
    steps: int
    batch: int
    rows: int
    group: int
    work: Work
    memory: Memory
    trained: int
    seconds: float | None = None


@dataclass(frozen=True)
class Pass:
    """Features of ``images`` images, a worker's shard in forward passes of ``batch``; work and seconds of one."""

    title: str
    round: int
    images: int
    batch: int
    work: Work
    memory: Memory
    seconds: float | None = None


@dataclass(frozen=True)
class Labels:
    """Pseudo-labels of the target, in a round."""

    round: int


@dataclass(frozen=True)
class Ranking:
    """A test set ("source", "target") is ranked."""

    test: str
    round: int


Event = Stretch | Pass | Labels | Ranking


@dataclass(frozen=True)
class Rehearsed:
    """All that a run does, in order, and D of its features."""

    events: list[Event]
    channels: int

    @property
    def stretches(self) -> list[Stretch]:
        return [event for event in self.events if isinstance(event, Stretch)]


def rehearse(config: Config, source: DomainData, target: DomainData) -> Rehearsed:
    """What a run would do.

    Args:
        config: precision and channels_last decided; fp16 is counted as bf16, DeepSpeed as DDP (they share the arithmetic).
        source, target: only their sizes are used, and the source's identities.

    Raises:
        UserError: the network cannot be built, or the method refuses what it is given.
    """
    runtime = replace(
        config.runtime,
        strategy="ddp",
        compile=False,
        precision="bf16" if config.runtime.precision == "fp16" else config.runtime.precision,
    )
    config = replace(config, runtime=runtime)
    with FakeTensorMode(allow_non_fake_inputs=True), Counting() as counting:
        return perform(config, blank(source), blank(target), _Rehearsal(counting), torch.device("cpu"))


def perform(config: Config, source: DomainData, target: DomainData, performer: Performer, device: torch.device) -> Rehearsed:
    """Run the method of a configuration, ``performer`` in its trainers' place, with random weights and no content in its labels."""
    begun = bool(config.pretrain.checkpoint)
    pretrain = replace(config.pretrain, checkpoint="", epochs=0 if begun else config.pretrain.epochs)
    config = replace(config, model=replace(config.model, weights="none"), pretrain=pretrain)
    labeler = BlankLabeler(performer.labels, len(target.train), normalized=config.labels.features == "l2")
    evaluator, nowhere = BlankEvaluator(performer.ranking), RunDirectory(Path(os.devnull) / "rehearsal")
    processes = Alone(world=max(1, config.runtime.workers), device=device)
    context = Context(config, processes, source, target, labeler, evaluator, nowhere, Silent(), performer)
    find(config.method).method(context).run()
    return Rehearsed(performer.events, performer.channels)


class Performer(ABC):
    """Takes a trainer's place; implements :class:`distreid.training.protocols.Rehearsal`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.round = self.channels = 0
        self._stretches: dict[Any, Stretch] = {}  # a stage is the same in every round
        self._passes: dict[Any, Pass] = {}

    @abstractmethod
    def train(self, trainer: Trainer[Any, Any], stage: Stage, title: str) -> Stretch:
        """What a stage takes; how often it comes, and in which round, is filled in."""

    @abstractmethod
    def features(self, trainer: Trainer[Any, Any], images: View, batch: int, *, flip: bool) -> Pass:
        """What a forward pass of ``batch`` images takes; title and number of images are filled in."""

    def fit(self, trainer: Trainer[Any, Any], stage: Stage) -> None:
        self.round, self.channels = trainer.state.round, trainer.model.feature_channels
        epochs = stage.epochs - trainer.state.epoch
        if epochs > 0:
            title = re.sub(r", round \d+ of \d+", "", stage.title)
            trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
            key = title, stage.plan(0).index_SB.shape, trained
            if key not in self._stretches:
                gc.collect()  # what the stage before left in circles
                self._stretches[key] = self.train(trainer, stage, title)
            self.events.append(replace(self._stretches[key], round=self.round, epochs=epochs))
        trainer.state.epoch = stage.epochs

    def extract(self, trainer: Trainer[Any, Any], images: View, title: str, *, flip: bool) -> np.ndarray:
        self.round, self.channels = trainer.state.round, trainer.model.feature_channels
        config, processes = trainer.config, trainer.context.processes
        part = shard(len(images), processes.rank, processes.world)
        batch = max(1, min(usual_batch(config.evaluate.batch_size, processes.device.type), part.stop - part.start))
        key = batch, flip
        if key not in self._passes:
            gc.collect()
            self._passes[key] = self.features(trainer, images, batch, flip=flip)
        self.events.append(replace(self._passes[key], title=title, round=self.round, images=len(images)))
        shape = part.stop - part.start, trainer.model.feature_channels
        return np.broadcast_to(np.ones(1, config.runtime.feature_dtype), shape)

    def labels(self) -> None:
        self.events.append(Labels(self.round))

    def ranking(self, test: str) -> None:
        self.events.append(Ranking(test, self.round))


class _Rehearsal(Performer):
    """Counts."""

    def __init__(self, counting: Counting) -> None:
        super().__init__()
        self._counting = counting

    def train(self, trainer: Trainer[Any, Any], stage: Stage, title: str) -> Stretch:
        """Two steps, of which the second finds the optimisers' state as all later ones do."""
        counting, plan = self._counting, stage.plan(0)
        rows = trainer.rows(stage, plan)
        trained = [p for p in trainer.model.parameters() if p.requires_grad]
        hooks = counting.follow(trained)
        trainer.model.train()
        for step in range(2):
            counting.begin()
            with closing(trainer.batches(stage, plan, [0], kernels=True)) as batches:  # type: ignore[type-var]
                trainer.seed_step([0, step], rows, plan)
                trainer.train_step(stage, next(batches), 0, len(plan), 1.0)
        for hook in hooks:
            hook.remove()
        work, peak, apart = counting.work, counting.peak, counting.apart
        weights = _bytes([*trainer.model.parameters(), *trainer.model.buffers()])
        states = sum(
            _bytes(list(state.values())) for engine in stage.engines for state in engine.optimizer_state()["state"].values()
        )
        gradients = _bytes(trained)
        memory = Memory(weights, gradients, states, apart - weights - states, peak)
        batch_size = plan.index_SB.shape[1]
        return Stretch(
            title, 0, 0, len(plan), batch_size, rows.stop - rows.start, stage.group, work, memory, sum(p.numel() for p in trained)
        )

    def features(self, trainer: Trainer[Any, Any], images: View, batch: int, *, flip: bool) -> Pass:
        """One forward pass, as :func:`distreid.training.features.extract` makes it."""
        model, counting, size = trainer.model, self._counting, trainer.config.input
        model.eval()
        counting.begin()
        with torch.inference_mode(), trainer.context.precision.autocast():
            bytes_BCHW = torch.empty(batch, 3, size.height, size.width, dtype=torch.uint8)
            x_BCHW = trainer.context.precision.layout(normalize(bytes_BCHW, model.mean, model.std))
            for _ in range(2 if flip else 1):
                model.features(x_BCHW)
        weights = _bytes([*model.parameters(), *model.buffers()])
        return Pass("", 0, 0, batch, counting.work, Memory(weights, 0, 0, counting.peak - weights, counting.peak))


def _bytes(tensors: Iterable[Any]) -> int:
    """Of the memory behind them, each piece once."""
    storages = {id(x.untyped_storage()): x.untyped_storage() for x in tensors if isinstance(x, Tensor)}
    return sum(storage.nbytes() for storage in storages.values())

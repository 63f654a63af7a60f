"""The training loop of every method: it drives stages, looks at the losses, stops when asked, and keeps checkpoints.

Composed of parts that can be read alone: :mod:`~distreid.training.stage` is what it drives, :mod:`~distreid.training.checkpoints`
what it keeps, :mod:`~distreid.training.meters` what it measures, :mod:`~distreid.training.seeds` where its random numbers begin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Literal, NoReturn, TypeVar

import numpy as np
import torch
from torch import nn

from distreid.common.errors import Stopped, UserError
from distreid.config import Config
from distreid.data.loader import Augmentation, Batch, View, training_batches
from distreid.data.sampling import BatchPlan, shard
from distreid.models import ReIDNetwork, match_on, place_randomness, train_on
from distreid.training.checkpoints import Checkpoints, State
from distreid.training.context import Context
from distreid.training.domains import TestSet
from distreid.training.features import extract
from distreid.training.memory import PassSize, give_back, keep_freed, ran_out
from distreid.training.meters import EpochMeter
from distreid.training.protocols import ScoreFuture
from distreid.training.seeds import epoch_seed, seed_torch
from distreid.training.stage import LossTerms, Stage
from distreid.training.statistics import take_statistics

CHECK_EVERY = 20  # steps between looks at the loss: each one waits for the device and the other processes

STATISTICS = 4  # the third number of the seed of the order in which they are taken

Domain = Literal["source", "target"]
Model = TypeVar("Model", bound=ReIDNetwork)
StateT = TypeVar("StateT", bound=State)


class Trainer(Generic[Model, StateT]):
    """Trains one process's part of a run.

    Args:
        build: the network of a configuration and a number of source identities; ``weights`` False where a checkpoint's follow.
        state: of a run that begins.
    """

    def __init__(self, context: Context, build: Callable[..., Model], state: StateT) -> None:
        self.context, self.state = context, state
        torch.manual_seed(context.config.seed)
        if context.processes.device.type == "cpu":
            keep_freed()
        begun = context.run_directory.last.exists() or bool(context.config.pretrain.checkpoint)
        self.model = build(context.config, context.source.identities, weights=not begun)
        if self.model.note:
            context.note(self.model.note)
        self._rows = place_randomness(self.model)
        context.precision.place(self.model)
        self.checkpoints = Checkpoints(context, self.model, state)
        self._pass_size = PassSize(context.config.evaluate.batch_size)
        self._shown = dict[str, float]()  # beside the progress

    @property
    def config(self) -> Config:
        return self.context.config

    def fit(self, stage: Stage) -> None:
        """The rest of a stage's epochs; a checkpoint after each."""
        if self.context.rehearsal is not None:
            return self.context.rehearsal.fit(self, stage)
        first = self.state.epoch
        for epoch in range(first, stage.epochs):
            self.train_epoch(stage, epoch, begins=epoch == first)
            stage.after_epoch(epoch + 1)
            if self.asked_to_stop():
                self.stop(stage)
            self.checkpoints.save(stage.state())
        for engine in stage.engines:
            engine.close()
        give_back()  # labels and other processes need what a step needed

    def train_epoch(self, stage: Stage, epoch: int, *, begins: bool) -> None:
        """The rest of an epoch. ``begins``: it is the first that this process trains of the stage."""
        state, reporter, plan = self.state, self.context.reporter, stage.plan(epoch)
        steps, rows, seed = len(plan), self.rows(stage, plan), epoch_seed(self.config.seed, state.round, epoch)
        meter = EpochMeter(self.context.processes, plan, rows, first=state.step)
        self.model.train()
        if begins:
            reporter.stage(stage.title, stage.epochs * steps, epoch * steps + state.step)
        for batch in self.batches(stage, plan, seed):
            self.seed_step([*seed, batch.step], rows, plan)
            terms, rate = self.train_step(stage, batch, epoch, steps, meter.weight)
            meter.add(terms)
            done = batch.step + 1
            if done % CHECK_EVERY == 0 or done == steps:
                self.look(stage, meter, epoch, done, ended=done == steps)
            reporter.advance(epoch * steps + done, {**self._shown, "epoch": epoch + 1})
        self.bring_together(stage, epoch, meter.weight)
        state.epoch, state.step = epoch + 1, 0
        self.log(meter, epoch, rate)

    def train_step(self, stage: Stage, batch: Batch, epoch: int, steps: int, weight: float) -> tuple[list[LossTerms], float]:
        """One step of all of the stage's optimisers: the loss terms of each part of the slice, and the learning rate."""
        rates = [engine.learning_rate(epoch + batch.step / steps) for engine in stage.engines]
        try:
            return stage.step(batch, epoch, weight), rates[0]
        except Exception as error:
            if not ran_out(error):
                raise
            size, parts = self.config.input, self.config.runtime.accumulate
            raise UserError(
                f"out of memory in a step of {stage.title}, {len(batch.indices)} images of {size.height}x{size.width} on "
                f"{self.context.processes.device}: set runtime.accumulate={2 * parts} (now {parts}; the same result), or take "
                "smaller batches or images; distreid plan says what fits"
            ) from error

    def seed_step(self, seed: list[int], rows: slice, plan: BatchPlan) -> None:
        """Let what the network draws depend on the step and on the images' places, and on nothing before or beside them."""
        self._rows.begin_step(seed, rows, plan.index_SB.shape[1])
        seed_torch([*seed, rows.start])  # for what draws without asking for its rows: resumed exactly, but others for other workers

    def rows(self, stage: Stage, plan: BatchPlan) -> slice:
        """This process's slice of the global batches."""
        processes, group = self.context.processes, stage.group
        groups = shard(plan.index_SB.shape[1] // group, processes.rank, processes.world)
        return slice(groups.start * group, groups.stop * group)

    def batches(self, stage: Stage, plan: BatchPlan, seed: list[int], *, kernels: bool = False) -> Iterator[Batch]:
        """This process's slices of an epoch's batches, from the step on that the state says."""
        context, settings = self.context, self.config.input
        return training_batches(
            [context.source.train, context.target.train],
            plan,
            Augmentation(
                settings.height, settings.width, settings.flip, settings.pad, settings.erase, self.model.mean, self.model.std
            ),
            seed,
            rank=context.processes.rank,
            world=context.processes.world,
            device=context.processes.device,
            group=stage.group,
            first=self.state.step,
            layout=context.precision.layout,
            kernels=kernels,
        )

    def look(self, stage: Stage, meter: EpochMeter, epoch: int, done: int, *, ended: bool) -> None:
        """At the losses, the same in every process; and whether this process, or its node, has to end within the epoch."""
        losses = meter.mean()
        self.context.reporter.measure(losses, meter.speed(done))
        self.check_losses(stage, losses, epoch)
        self._shown["loss"] = sum(losses.values())
        if ended:
            return
        stopping = self.asked_to_stop()
        if stopping or self.context.reporter.leaving():
            self.bring_together(stage, epoch, meter.weight)
            self.state.step = done
            if stopping:
                self.stop(stage)
            self.checkpoints.save(stage.state())  # to lose no more than a few steps when the node goes

    def bring_together(self, stage: Stage, epoch: int, weight: float) -> None:
        """Let the model hold the trained weights, the same in every process, before they reach a checkpoint."""
        for engine in stage.engines:
            engine.end_epoch(weight)
        # The last step may have broken what its loss did not show.
        if not torch.stack([torch.isfinite(value).all() for value in self.model.state_dict().values()]).all():
            raise UserError(stage.diverged("a weight", epoch))

    def check_losses(self, stage: Stage, losses: dict[str, float], epoch: int) -> None:
        broken = ", ".join(name for name, value in losses.items() if not np.isfinite(value))
        if broken:
            raise UserError(stage.diverged(f"the loss ({broken})", epoch))

    def log(self, meter: EpochMeter, epoch: int, rate: float) -> None:
        """An epoch's line of metrics.jsonl, and its seconds in the round's line of the result."""
        pace = meter.pace()
        if "seconds" in self.state.figures:
            seconds = self.state.figures["seconds"]
            seconds["train"] = seconds.get("train", 0.0) + pace["seconds"]
        if self.context.processes.is_main:
            line = {"event": "epoch", "round": self.state.round, "epoch": epoch + 1, "loss": meter.losses, "lr": rate}
            self.context.run_directory.append({**line, **pace})

    def asked_to_stop(self) -> bool:
        """Whether any process was given notice; the same answer in all of them, which must all ask."""
        return self.context.processes.any(self.context.reporter.stopping())

    def stop(self, stage: Stage) -> NoReturn:
        """End as SIGTERM asked, with a checkpoint to continue from. All processes call it."""
        self.checkpoints.save(stage.state())
        self.context.processes.barrier()  # nobody ends the run before it is written
        epoch, step = self.state.epoch, self.state.step
        where = f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"
        shown = self.context.run_directory.shown
        raise Stopped(f"{shown}: stopped as asked, after {where} of this stage; --resume continues there")

    def extract(self, images: View, title: str, *, domain: Domain = "target", flip: bool = False) -> np.ndarray:
        """This process's shard of the features of ``images``, float32 [n, c]. ``domain``: whose they are."""
        match_on(self.model, domain)
        if self.context.rehearsal is not None:
            return self.context.rehearsal.extract(self, images, title, flip=flip)
        settings, processes, reporter = self.config.input, self.context.processes, self.context.reporter
        part = shard(len(images), processes.rank, processes.world)
        reporter.stage(title, part.stop - part.start)
        return extract(
            self.model,
            images,
            part,
            height=settings.height,
            width=settings.width,
            batch=self._pass_size,
            precision=self.context.precision,
            flip=flip,
            progress=lambda done: reporter.advance(done, {}),
        )

    def take_statistics(self, encoders: Iterable[nn.Module], images: View, title: str) -> None:
        """Give the BatchNorms of the target's side of some parts of the network the statistics of ``images``."""
        train_on(self.model, "target")
        if self.context.rehearsal is not None:
            self.context.rehearsal.extract(self, images, title, flip=False)
            return
        settings, processes, reporter = self.config.input, self.context.processes, self.context.reporter
        reporter.stage(title, len(images) // processes.world)
        take_statistics(
            self.model,
            encoders,
            images,
            processes,
            self.context.precision,
            height=settings.height,
            width=settings.width,
            seed=[self.config.seed, self.state.round, STATISTICS],
            progress=lambda done: reporter.advance(done, {}),
        )

    def score(self, name: Domain, test: TestSet) -> ScoreFuture:
        """Hand a test set's features in; on Ray they are ranked while this process goes on."""
        shard_nD = self.extract(test.images, f"features of the {name}'s test set", domain=name, flip=self.config.evaluate.flip)
        answer = self.context.evaluator.score(f"{name}-{self.state.round}", name, shard_nD)

        def ranked() -> dict[str, float]:
            self.context.reporter.stage(f"ranking the {name}'s test set", 0)
            return answer()

        return ranked


def accuracy_text(metrics: dict[str, Any]) -> str:
    return f"mAP {100 * metrics['mAP']:.1f}, Rank-1 {100 * metrics['rank1']:.1f}"

"""What the training of every method shares: the epoch loop, checkpoints that a killed run continues from, features and scores.

Every random number is a function of (seed, round, epoch, step), never of history or of the number of workers, so a run that was
killed continues to the same result from nothing but its last checkpoint.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from distreid.config import Config, to_dict
from distreid.data.loader import Augmentation, Batch, View, training_batches
from distreid.data.sampling import BatchPlan, shard
from distreid.errors import Stopped, UserError
from distreid.methods.compute import settle
from distreid.methods.domains import Network, TestSet
from distreid.methods.features import extract
from distreid.methods.networks import build_model, load_weights
from distreid.methods.protocols import Answer, Desk, Reporter
from distreid.runtime import Engine, LossMeter, Precision, RunDirectory, Team, save_tensors

LossTerms = dict[str, Tensor]
CHECK_EVERY = 20  # steps between looks at the loss: each one waits for the device and the other processes


@dataclass
class State:
    """Where the run stands; with the weights and the optimiser, all that a checkpoint holds."""

    round: int = 0  # the method's own count of its stages
    epoch: int = 0  # epochs of this round that are finished
    step: int = 0  # steps of the next one that are: not 0 where a run was stopped on notice
    figures: dict[str, Any] = field(default_factory=dict)  # this round's line of the result, as far as it is known
    result: dict[str, Any] = field(default_factory=dict)


class Method(ABC):
    """One process's part of a run.

    Args:
        source: labelled; target: unlabelled, with a test set where accuracy is to be measured.
        desk: labels and scores features that all processes hand in.
    """

    def __init__(
        self, config: Config, team: Team, source: Network, target: Network, desk: Desk, run: RunDirectory, reporter: Reporter
    ) -> None:
        config = settle(config, team, run, reporter)
        self.config, self.team, self.source, self.target = config, team, source, target
        self.desk, self.run_directory, self.reporter = desk, run, reporter
        how = config.runtime
        self.precision = Precision(how.precision, team.device, channels_last=how.channels_last is True, compile=how.compile)
        self.state = self.first_state()
        self.saved: dict[str, Any] | None = None  # a checkpoint being resumed, until its optimiser is loaded
        torch.manual_seed(config.seed)
        begun = run.last.exists() or bool(config.pretrain.checkpoint)
        self.model: Any = build_model(config, source.identities, weights=not begun)
        self.precision.place(self.model)

    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Train to the end. Returns what result.json holds."""

    @abstractmethod
    def first_state(self) -> State: ...

    @property
    @abstractmethod
    def rounds(self) -> int:
        """The last round's number."""

    @abstractmethod
    def diverged(self, what: str, epoch: int) -> NoReturn:
        """Raise the UserError that says what is not finite, and which settings to lower."""

    def after_epoch(self) -> None:  # noqa: B027 - not every method has something to do here
        """Whatever a method does between an epoch's end and its checkpoint."""

    def train(
        self,
        epochs: int,
        title: str,
        plan: Callable[[int], BatchPlan],
        update: Callable[[Batch, float, float], tuple[list[LossTerms], float]],
        optimizer: Callable[[], dict[str, Any]],
        engines: Sequence[Engine],
        group: int,
    ) -> None:
        """Run the rest of a round's epochs; a checkpoint after each.

        Args:
            plan: an epoch's global batches.
            update: one step on this process's slice of a batch at a (fractional) epoch; its loss terms are to be multiplied by the
                weight. Gives the terms of each part of the slice and the learning rate.
            optimizer: what a checkpoint must hold of the optimisers. All processes call it.
            engines: what trains.
            group: a slice of a batch is a number of whole groups of so many images.
        """
        state, how = self.state, self.config.input
        augmentation = Augmentation(how.height, how.width, how.flip, how.pad, how.erase)
        domains = [self.source.train, self.target.train]
        first, figures = state.epoch, dict[str, float]()
        for epoch in range(first, epochs):
            started, begun = time.perf_counter(), state.step
            batches = plan(epoch)
            seed = [self.config.seed, state.round, 2, epoch]
            # For backbones that draw random numbers of their own (dropout, drop path).
            torch.manual_seed(int(np.random.SeedSequence([*seed, self.team.rank]).generate_state(1)[0]))
            self.model.train()
            if epoch == first:
                self.reporter.stage(title, epochs * len(batches), epoch * len(batches) + begun)
            meter = LossMeter(self.team)
            for batch in training_batches(
                domains, batches, augmentation, seed, rank=self.team.rank, world=self.team.world, device=self.team.device,
                group=group, first=begun,
            ):  # fmt: skip
                done, ended = batch.step + 1, batch.step + 1 == len(batches)
                # 1, unless nodes were lost and what is left cannot share the batch equally.
                weight = len(batch.index_B) * self.team.world / batches.index_SB.shape[1]
                parts, rate = update(batch, epoch + batch.step / len(batches), weight)
                for terms in parts:
                    meter.add(terms)
                if done % CHECK_EVERY == 0 or ended:
                    losses = meter.mean()
                    speed = (done - begun) * len(batch.index_B) / (time.perf_counter() - started)
                    self.reporter.measure(losses, speed)
                    self.check_losses(losses, epoch)
                    figures["loss"] = sum(meter.mean_seen.values())
                    stopping = not ended and self.team.any(self.reporter.stopping())
                    if stopping or (not ended and self.reporter.leaving()):
                        for engine in engines:
                            engine.end_epoch(weight)
                        self.check_weights(epoch)
                        state.step = done
                        if stopping:
                            self.stop(optimizer())
                        self.checkpoint(optimizer())  # to lose no more than a few steps when the node goes
                self.reporter.advance(epoch * len(batches) + done, {**figures, "epoch": epoch + 1})
            for engine in engines:
                engine.end_epoch(weight)
            self.check_weights(epoch)
            elapsed = time.perf_counter() - started
            state.epoch, state.step = epoch + 1, 0
            if "seconds" in state.figures:
                seconds = state.figures["seconds"]
                seconds["train"] = seconds.get("train", 0.0) + elapsed
            if self.team.leads:
                record = {"event": "epoch", "round": state.round, "epoch": epoch + 1, "loss": meter.mean_seen, "lr": rate}
                images = batches.index_SB[begun:].size
                pace = {"images_per_second": images / elapsed, "seconds": elapsed, "workers": self.team.world}
                self.run_directory.append({**record, **pace})
            self.after_epoch()
            if self.team.any(self.reporter.stopping()):
                self.stop(optimizer())
            self.checkpoint(optimizer())

    def stop(self, optimizer: dict[str, Any]) -> NoReturn:
        """End as SIGTERM asked, with a checkpoint to continue from. All processes call it."""
        self.checkpoint(optimizer)
        self.team.barrier()  # nobody ends the run before it is written
        epoch, step = self.state.epoch, self.state.step
        where = f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"
        raise Stopped(f"{self.run_directory.shown}: stopped as asked, after {where} of this stage; --resume continues there")

    def check_losses(self, losses: dict[str, float], epoch: int) -> None:
        """The same verdict in every process, because the means are."""
        broken = ", ".join(name for name, value in losses.items() if not np.isfinite(value))
        if broken:
            self.diverged(f"the loss ({broken})", epoch)

    def check_weights(self, epoch: int) -> None:
        """Before they reach a checkpoint: the last step may have broken what its loss did not show."""
        if not all(bool(torch.isfinite(value).all()) for value in self.model.state_dict().values()):
            self.diverged("a weight", epoch)

    def extract(self, images: View, title: str, *, flip: bool = False) -> np.ndarray:
        """This process's shard of the features of ``images``, float32 [n, c]."""
        how = self.config.input
        part = shard(len(images), self.team.rank, self.team.world)
        self.reporter.stage(title, part.stop - part.start)
        return extract(
            self.model,
            images,
            part,
            height=how.height,
            width=how.width,
            batch=self.config.evaluate.batch_size,
            precision=self.precision,
            flip=flip,
            progress=lambda done: self.reporter.advance(done, {}),
        )

    def score(self, name: str, test: TestSet) -> Answer:
        """Hand a test set's features in; the desk ranks them while this process goes on."""
        shard_nD = self.extract(test.images, f"features of the {name}'s test set", flip=self.config.evaluate.flip)
        return self.desk.score(f"{name}-{self.state.round}", name, shard_nD)

    def checkpoint(self, optimizer: dict[str, Any] | None) -> None:
        """Replace the checkpoint to resume from; ``optimizer`` None between the stages, where there is none to keep."""
        if self.team.leads:
            self.run_directory.save({**self.portable(), "state": vars(self.state), "optimizer": optimizer})

    def save_round(self) -> None:
        """Keep this round's line and weights."""
        if self.team.leads:
            self.run_directory.append({"event": "round", "round": self.state.round, **(self.state.figures or self.state.result)})
            save_tensors(self.run_directory.round_checkpoint(self.state.round), self.portable())

    def portable(self) -> dict[str, Any]:
        """The model and what is needed to build it again."""
        return {
            "format": 1,
            "config": to_dict(self.config),
            "identities": self.source.identities,
            "content": [self.source.content, self.target.content],
            "model": self.model.state_dict(),
        }

    def resume(self) -> None:
        """Continue from the last checkpoint, if there is one."""
        saved = self.run_directory.load()
        self.team.barrier()  # nobody writes before everybody has read
        if self.team.leads:
            self.run_directory.truncate_metrics(saved["metrics_size"] if saved is not None else 0)
        if not self.team.agrees(repr((self.source.content, self.target.content, saved and saved["state"]))):
            raise UserError(
                f"{self.run_directory.path}: the workers see different files; the output and the packed data must lie on "
                "storage that every node shares"
            )
        if saved is None:
            return
        if saved["content"] != [self.source.content, self.target.content]:
            raise UserError(f"{self.run_directory.path}: the data have changed since this run began; choose another output")
        self.state = type(self.state)(**saved["state"])
        if self.team.leads and self.state.round <= self.rounds:
            self.run_directory.result.unlink(missing_ok=True)  # of a finished run that goes on: it would look finished
        load_weights(self.model, saved["model"], self.run_directory.last)
        self.saved = saved

    def finish(self) -> dict[str, Any]:
        """Write result.json: the last checkpoint's accuracy, never the best one's."""
        rounds = self.state.result.get("rounds", [])
        kept = ("mAP", "rank1", "rank5", "rank10", "reverse")
        accuracy = {key: rounds[-1][key] for key in kept if key in rounds[-1]} if rounds else {}
        result = {
            "method": self.config.method,
            "source": self.source.name,
            "target": self.target.name,
            "seed": self.config.seed,
            **self.state.result,
            "final": accuracy or None,
        }
        if self.team.leads:
            self.run_directory.write_result(result)
        return result

    def to_device(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, device=self.team.device)


def accuracy_text(metrics: dict[str, Any]) -> str:
    return f"mAP {100 * metrics['mAP']:.1f}, Rank-1 {100 * metrics['rank1']:.1f}"

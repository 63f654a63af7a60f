"""EDAAN: attention-guided translation and re-ID trained end to end (Khatun et al.), and its variants, on one process or many."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from distreid.data.loader import Batch
from distreid.data.sampling import BatchPlan, PKStream, PlainStream, plan_one, plan_unpaired, shard
from distreid.errors import UserError
from distreid.methods.edaan.config import EDAANConfig
from distreid.methods.edaan.grids import save_pictures
from distreid.methods.edaan.image_pool import ImagePool
from distreid.methods.edaan.objectives import DiscriminatorSide, GeneratorSide, Labelled, ReIDSide
from distreid.methods.edaan_report import stages_of
from distreid.models.edaan import EDAAN, parameters_of
from distreid.training import Engine, timed
from distreid.training.loop import LossTerms, Method, State, accuracy_text


@dataclass(frozen=True)
class Phase:
    """Epochs up to ``until`` in which the same networks train and the discriminators see the same."""

    until: int
    attention: bool  # the attention networks train
    masked: bool  # the discriminators see the attended region only


def phases(how: EDAANConfig) -> list[Phase]:
    """The paper's schedule, cut where something changes."""
    end = how.epochs + how.decay_epochs
    changes = {how.attention_epochs, how.whole_epochs} if how.attention else set()
    cuts = sorted({cut for cut in changes if 0 < cut < end} | {end})
    starts = [0, *cuts[:-1]]
    return [
        Phase(until, how.attention and start < how.attention_epochs, how.attention and start >= how.whole_epochs)
        for start, until in zip(starts, cuts, strict=True)
    ]


def linear_decay_factor(epoch: float, *, constant: int, decay: int) -> float:
    """1 for ``constant`` epochs, then linearly to 0 over ``decay`` more."""
    return 1.0 if epoch < constant else max(0.0, 1 - (epoch - constant) / decay)


class EDAANMethod(Method):
    """One process's part of a run. A round is a stage: one end to end, two for daan and cyclegan, one for direct."""

    model: EDAAN

    def first_state(self) -> State:
        return State(round=1)

    @property
    def stages(self) -> list[str]:
        return stages_of(self.config.edaan.variant)

    @property
    def rounds(self) -> int:
        return len(self.stages)

    def run(self) -> dict[str, Any]:
        """The stages of the variant. Returns what result.json holds."""
        self.resume()
        while self.state.round <= self.rounds:
            stage = self.stages[self.state.round - 1]
            self.state.figures = self.state.figures or {"round": self.state.round, "stage": stage, "seconds": {}}
            if stage == "reid":
                self.train_reid()
            else:
                self.train_translation(joint=stage == "joint")
            self.end_stage(measured=stage != "translation")
        return self.finish()

    def train_translation(self, *, joint: bool) -> None:
        """Generators, attention and discriminators; with the re-ID head where ``joint``: Eq. 9."""
        how, seed = self.config.edaan, [self.config.seed, self.state.round]
        source = PKStream(self.source_labels, how.instances, [*seed, 0])
        target = PlainStream(len(self.target.train), [*seed, 1])
        plan = partial(plan_unpaired, source, target, half=how.batch_size, group=2 * how.group)
        saved = self.saved["optimizer"] if self.saved is not None else None
        for phase in phases(how):
            if phase.until > self.state.epoch:
                saved = self.train_phase(phase, joint, plan, saved)

    def train_phase(
        self, phase: Phase, joint: bool, plan: Callable[[int], BatchPlan], saved: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The rest of a phase's epochs, from the optimisers' and the replayed images' state to their state."""
        how = self.config.edaan
        generators, discriminators = self.engines(phase, joint, saved)
        # A phase of masked images replays no whole ones.
        kept = saved["replay"] if saved is not None and saved["masked"] == phase.masked else None
        replay = ImagePool(how.replay, how.batch_size, self.team, kept)

        def update(batch: Batch, epoch: float, _: float) -> tuple[list[LossTerms], float]:
            discriminators.learning_rate(epoch)
            rate = generators.learning_rate(epoch)
            is_source_B = self.to_device(batch.domain_B == 0)
            with frozen(self.model.discriminators()):
                terms, seen = generators.forward(batch.images_BCHW, is_source_B, self.labelled(batch, int(epoch)))
                generators.step(sum(terms.values(), torch.zeros((), device=self.team.device)))
            real_S, fake_S, real_T, fake_T = seen
            turn = [self.config.seed, self.state.round, 4, int(epoch), batch.step]
            fake_S, fake_T = replay.exchange([fake_S, fake_T], turn)
            wrong = discriminators.forward(real_S, fake_S, real_T, fake_T)
            discriminators.step(wrong)
            return [{**terms, "discriminator": wrong}], rate

        def state() -> dict[str, Any]:
            return {
                "generators": generators.optimizer_state(),
                "discriminators": discriminators.optimizer_state(),
                "replay": replay.state(),
                "masked": phase.masked,
            }

        title = "translation" + " and re-ID" * joint + ", masked" * phase.masked
        self.train(phase.until, title, plan, update, state, engines=[generators, discriminators], group=2 * how.group)
        return state()

    def engines(self, phase: Phase, joint: bool, saved: dict[str, Any] | None) -> tuple[Engine, Engine]:
        """Optimisers of the generators (with re-ID and, while it trains, the attention) and of the discriminators."""
        model, how = self.model, self.config.edaan
        side = GeneratorSide(model, how, joint=joint, masked=phase.masked)
        attention = {id(p) for p in model.attention_parameters()}
        groups = [[p for p in parameters_of([side]) if id(p) not in attention]]
        if phase.attention:
            groups.append(model.attention_parameters())
        factor = partial(linear_decay_factor, constant=how.epochs, decay=how.decay_epochs)
        judges = DiscriminatorSide(model, how)
        generators = self.adam(side, groups, factor)
        discriminators = self.adam(judges, [parameters_of([judges])], factor)
        if saved is not None:
            restore(generators, saved["generators"])
            restore(discriminators, saved["discriminators"])
        self.saved = None
        return generators, discriminators

    def train_reid(self) -> None:
        """A re-ID network of its own, on real images, translated ones or both; the translator is fixed."""
        how = self.config.edaan
        side = ReIDSide(self.model, how)
        factor = partial(linear_decay_factor, constant=how.reid_epochs, decay=how.reid_decay_epochs)
        engine = self.adam(side, [parameters_of([side])], factor)
        if self.saved is not None and self.saved["optimizer"] is not None:
            restore(engine, self.saved["optimizer"])
        self.saved = None
        stream = PKStream(self.source_labels, how.instances, [self.config.seed, self.state.round, 0])

        def update(batch: Batch, epoch: float, _: float) -> tuple[list[LossTerms], float]:
            rate = engine.learning_rate(epoch)
            terms = engine.forward(batch.images_BCHW, self.labelled(batch, int(epoch)))
            engine.step(sum(terms.values(), torch.zeros((), device=self.team.device)))
            return [terms], rate

        epochs = how.reid_epochs + how.reid_decay_epochs
        plan = partial(plan_one, stream, batch=how.batch_size)
        self.train(epochs, "re-ID", plan, update, engine.optimizer_state, engines=[engine], group=how.group)

    def adam(self, side: nn.Module, groups: list[list[nn.Parameter]], factor: Any) -> Engine:
        how = self.config.edaan
        # AdamW without weight decay is Adam.
        parameters = [{"params": group, "lr": how.lr, "betas": (how.beta1, 0.999)} for group in groups]
        return Engine(side, parameters, factor, self.team, self.precision, optimizer="adamw", weight_decay=0.0)

    def labelled(self, batch: Batch, epoch: int) -> Labelled:
        """Identities of this process's source images, and its rows of the dropout drawn for the whole batch."""
        how, state = self.config.edaan, self.state
        rng = np.random.default_rng([self.config.seed, state.round, 3, epoch, batch.step])
        rows = how.batch_size * how.views
        keep_RD = rng.random((rows, self.model.head.HIDDEN)) >= how.network.dropout
        return Labelled(
            self.to_device(self.source_labels[batch.index_B[batch.domain_B == 0]]),
            self.to_device(keep_RD[shard(rows, self.team.rank, self.team.world)]),
        )

    @property
    def source_labels(self) -> np.ndarray:
        assert self.source.labels is not None
        return self.source.labels

    def end_stage(self, *, measured: bool) -> None:
        """Accuracy of a stage that trained re-ID, its line in the result."""
        state, figures = self.state, self.state.figures
        with timed(figures["seconds"], "evaluate"):
            if measured and self.source.test is not None:
                state.result["in_domain"] = self.score("source", self.source.test)()
            if measured and self.target.test is not None:
                figures.update(self.score("target", self.target.test)())
        if self.team.is_main:
            if "in_domain" in state.result:
                self.reporter.note(f"on its own test set {accuracy_text(state.result['in_domain'])}")
            if "mAP" in figures:
                self.reporter.note(f"on the target {accuracy_text(figures)}")
        state.result.setdefault("rounds", []).append(figures)
        self.save_round()
        self.saved = None
        state.round, state.epoch, state.figures = state.round + 1, 0, {}
        self.checkpoint(None)

    def after_epoch(self) -> None:
        every = self.config.edaan.pictures_every
        translating = self.stages[self.state.round - 1] != "reid"
        if self.team.is_main and every and translating and self.state.epoch % every == 0:
            how = self.config.input
            file = self.run_directory.path / "pictures" / f"epoch-{self.state.epoch:03d}.png"
            save_pictures(file, self.model, self.source.train, self.target.train, how.height, how.width)

    def diverged(self, what: str, epoch: int) -> NoReturn:
        stage = self.stages[self.state.round - 1]
        raise UserError(
            f"{stage} training, epoch {epoch + 1}: {what} is not finite; start again in a new output with lower edaan.lr"
        )


@contextlib.contextmanager
def frozen(modules: list[Any]) -> Iterator[None]:
    """No gradient reaches these modules' parameters; it passes through them."""
    for parameter in parameters_of(modules):
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters_of(modules):
            parameter.requires_grad_(True)


def restore(engine: Engine, saved: dict[str, Any]) -> None:
    """Continue an optimiser; groups at the end that no longer train (the attention's) are left out."""
    groups = saved["param_groups"][: engine.groups]
    kept = {index for group in groups for index in group["params"]}
    state = {index: value for index, value in saved["state"].items() if index in kept}
    engine.load_optimizer_state({"state": state, "param_groups": groups})

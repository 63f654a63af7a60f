"""What trains in EDAAN and its variants: translators against discriminators, with or without re-ID; and re-ID alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from distreid.common.transfer import keep, send
from distreid.data.loader import Batch
from distreid.data.sampling import BatchPlan, PlainStream, make_stream, plan_one, plan_unpaired, shard
from distreid.methods.edaan.config import EDAANConfig
from distreid.methods.edaan.grids import save_pictures
from distreid.methods.edaan.image_pool import ImagePool
from distreid.methods.edaan.objectives import DiscriminatorSide, GeneratorSide, Labelled, ReIDSide
from distreid.methods.edaan.schedule import Phase, linear_decay_factor
from distreid.models import EDAAN, parameters_of
from distreid.training.context import Context
from distreid.training.engine import Engine
from distreid.training.stage import LossTerms, SingleEngineStage, Stage, total

DROPOUT, REPLAY = 3, 4  # the third number of the seeds of what is drawn here


class TranslationStage(Stage):
    """Generators, attention and discriminators through one phase; with the re-ID head where ``joint``: Eq. 9.

    Args:
        number: the round's.
        saved: what :meth:`state` gave, of this phase or of the one before it.
    """

    def __init__(
        self, context: Context, model: EDAAN, number: int, phase: Phase, *, joint: bool, saved: dict[str, Any] | None
    ) -> None:
        self._context, self._model, self._phase, self._joint = context, model, phase, joint
        self._settings, self._seed = context.config.group(EDAANConfig), [context.config.seed, number]
        settings, processes = self._settings, context.processes
        self.title = "translation" + " and re-ID" * joint + ", masked" * phase.masked
        self.epochs, self.group = phase.until, 2 * settings.group
        self.generators, self.discriminators = make_engines(context, model, phase, joint=joint)
        self.engines = [self.generators, self.discriminators]
        if saved is not None:
            restore(self.generators, saved["generators"])
            restore(self.discriminators, saved["discriminators"])
        # A phase of masked images replays no whole ones.
        kept = saved["replay"] if saved is not None and saved["masked"] == phase.masked else None
        self._replay = ImagePool(settings.replay, settings.batch_size, processes, kept)
        self._labels = keep(labels_of(context), processes.device)
        self._source = make_stream(labels_of(context), "pk", settings.instances, [*self._seed, 0], context.source.sets)
        self._target = PlainStream(len(context.target.train), [*self._seed, 1])

    def plan(self, epoch: int) -> BatchPlan:
        return plan_unpaired(self._source, self._target, epoch, half=self._settings.batch_size, group=self.group)

    def step(self, batch: Batch, epoch: int, weight: float) -> list[LossTerms]:
        """The generators' step, then the discriminators' on what those have just made."""
        terms, (real_S, fake_S, real_T, fake_T) = self.generate(batch, epoch)
        fake_S, fake_T = self._replay.exchange([fake_S, fake_T], [*self._seed, REPLAY, epoch, batch.step])
        return [{**terms, "discriminator": self.discriminate(real_S, fake_S, real_T, fake_T)}]

    def generate(self, batch: Batch, epoch: int) -> tuple[LossTerms, tuple[Tensor, ...]]:
        """Forward and backward of Eq. 9 without the discriminators' part; what they are to judge."""
        labelled = draw_labelled(self._context, self._model, self._labels, batch, [*self._seed, DROPOUT, epoch, batch.step])
        with frozen(self._model.discriminators()):
            terms, seen = self.generators.forward(batch.images_BCHW, batch.sides.source_S, batch.sides.target_T, labelled)
            self.generators.step(total(terms))
        return terms, seen

    def discriminate(self, real_S: Tensor, fake_S: Tensor, real_T: Tensor, fake_T: Tensor) -> Tensor:
        """Forward and backward of Eq. 3 as the discriminators maximise it."""
        wrong = self.discriminators.forward(real_S, fake_S, real_T, fake_T)
        self.discriminators.step(wrong)
        return wrong

    def state(self) -> dict[str, Any]:
        return {
            "generators": self.generators.optimizer_state(),
            "discriminators": self.discriminators.optimizer_state(),
            "replay": self._replay.state(),
            "masked": self._phase.masked,
        }

    def after_epoch(self, epochs: int) -> None:
        """A grid of pictures, every so many epochs."""
        every, context = self._settings.pictures_every, self._context
        if context.processes.is_main and every and epochs % every == 0:
            size = context.config.input
            file = context.run_directory.path / "pictures" / f"epoch-{epochs:03d}.png"
            save_pictures(file, self._model, context.source.train, context.target.train, size.height, size.width)

    def diverged(self, what: str, epoch: int) -> str:
        return diverged("joint" if self._joint else "translation", what, epoch)


class ReIDStage(SingleEngineStage):
    """A re-ID network of its own, on real images, translated ones or both; the translator is fixed."""

    def __init__(self, context: Context, model: EDAAN, number: int, saved: dict[str, Any] | None) -> None:
        self._context, self._model = context, model
        self._settings, self._seed = context.config.group(EDAANConfig), [context.config.seed, number]
        settings = self._settings
        side = ReIDSide(model, settings)
        factor = partial(linear_decay_factor, constant=settings.reid_epochs, decay=settings.reid_decay_epochs)
        super().__init__(
            adam(context, side, [parameters_of([side])], factor),
            "re-ID",
            settings.reid_epochs + settings.reid_decay_epochs,
            settings.group,
        )
        if saved is not None:
            restore(self.engine, saved)
        self._labels = keep(labels_of(context), context.processes.device)
        self._stream = make_stream(labels_of(context), "pk", settings.instances, [*self._seed, 0], context.source.sets)

    def plan(self, epoch: int) -> BatchPlan:
        return plan_one(self._stream, epoch, batch=self._settings.batch_size)

    def loss(self, batch: Batch, epoch: int) -> LossTerms:
        labelled = draw_labelled(self._context, self._model, self._labels, batch, [*self._seed, DROPOUT, epoch, batch.step])
        return self.engine.forward(batch.images_BCHW, labelled)

    def diverged(self, what: str, epoch: int) -> str:
        return diverged("reid", what, epoch)


def labels_of(context: Context) -> np.ndarray:
    assert context.source.labels is not None
    return context.source.labels


def draw_labelled(context: Context, model: EDAAN, labels_N: Tensor, batch: Batch, seed: list[int]) -> Labelled:
    """Identities of this process's source images, and its rows of the dropout drawn for the whole batch.

    labels_N: of all source images, on the training device.
    """
    settings, processes = context.config.group(EDAANConfig), context.processes
    rows = settings.batch_size * settings.views
    keep_RD = np.random.default_rng(seed).random((rows, model.head.HIDDEN)) >= settings.network.dropout
    return Labelled(
        labels_N[batch.indices[batch.sides.source_S]],
        send(keep_RD[shard(rows, processes.rank, processes.world)], processes.device),
    )


def make_engines(context: Context, model: EDAAN, phase: Phase, *, joint: bool) -> tuple[Engine, Engine]:
    """Optimisers of the generators (with re-ID and, while it trains, the attention) and of the discriminators."""
    settings = context.config.group(EDAANConfig)
    side = GeneratorSide(model, settings, joint=joint, masked=phase.masked)
    attention = {id(p) for p in model.attention_parameters()}
    groups = [[p for p in parameters_of([side]) if id(p) not in attention]]
    if phase.attention:
        groups.append(model.attention_parameters())
    factor = partial(linear_decay_factor, constant=settings.epochs, decay=settings.decay_epochs)
    judges = DiscriminatorSide(model, settings)
    return adam(context, side, groups, factor), adam(context, judges, [parameters_of([judges])], factor)


def adam(context: Context, side: nn.Module, groups: list[list[nn.Parameter]], factor: Any) -> Engine:
    settings = context.config.group(EDAANConfig)
    # AdamW without weight decay is Adam.
    parameters = [{"params": group, "lr": settings.lr, "betas": (settings.beta1, 0.999)} for group in groups]
    return Engine(side, parameters, factor, context.processes, context.precision, optimizer="adamw", weight_decay=0.0)


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


def diverged(stage: str, what: str, epoch: int) -> str:
    return f"{stage} training, epoch {epoch + 1}: {what} is not finite; start again in a new output with lower edaan.lr"

"""What trains in contrast: the source alone, then each round source and target, or the target alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distreid.common.transfer import keep
from distreid.data.loader import Batch
from distreid.data.sampling import TARGET, BatchPlan, make_stream, plan_mixed, plan_one
from distreid.methods.contrast.classes import Classes
from distreid.methods.contrast.config import ContrastConfig
from distreid.methods.contrast.memory import contrastive_loss, gather_slices, update_memory
from distreid.methods.contrast.network import ContrastNet
from distreid.methods.encoder_stage import EncoderStage, SourceStage, round_diverged
from distreid.methods.engines import make_engine
from distreid.methods.norms import frozen
from distreid.training.context import Context
from distreid.training.stage import LossTerms

CLASSIFY = True  # by position: engines hand no keywords on
OUTLIERS = 3  # the third number of the seed of what is drawn here


class Pretraining(SourceStage):
    """The source's identities by a classifier, which is left behind."""

    def classify(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.engine.forward(batch.images_BCHW, CLASSIFY)

    def state(self) -> dict[str, Any]:
        return {"optimizer": super().state()}


class Adaptation(EncoderStage):
    """A round: trains against a memory that follows.

    Args:
        number: the round's.
        memory_KD: where it begins, a row for each of the ``classes``, on the training device; changed in place.
    """

    def __init__(self, context: Context, model: ContrastNet, number: int, classes: Classes, memory_KD: Tensor) -> None:
        config, settings = context.config, context.config.adapt
        self._alone, device = not len(context.source.train), context.processes.device
        # One schedule of the rates for all rounds.
        engine = make_engine(
            context, model, model.encoder.backbone, settings.optimizer, settings.rounds * settings.epochs, model.trained(),
            domains="target" if self._alone else "mixed", before=(number - 1) * settings.epochs, frozen=frozen(model, settings),
        )  # fmt: skip
        title = f"training, round {number} of {settings.rounds}"
        super().__init__(context, model, engine, title, settings.epochs)
        self._run, self._processes, self._batch = context.run_directory, context.processes, settings.batch_size
        self._settings, self._number, self._memory_KD = config.group(ContrastConfig), number, memory_KD
        identities, apart = classes.identities, self._settings.against == "domain"
        self._rows = {"source": slice(0, identities if apart else None), "target": slice(identities if apart else 0, None)}
        # Of all images, the source's first; on the device for the whole round: a step only says which images it shows.
        self._classes_I, self._first_target = np.concatenate([classes.source_M, classes.target_N]), len(classes.source_M)
        self._kept_classes_I = keep(self._classes_I, device)
        self._classes_SB = np.zeros((0, 0), np.int64)  # of the epoch's global batches
        self._seen: list[Tensor] = []  # this process's features of the step
        stream = partial(make_stream, sampler=settings.sampler, instances=settings.instances)
        together_N = classes.together(settings.instances, [config.seed, number, OUTLIERS])
        self._used = np.flatnonzero(together_N >= 0)
        self._target = stream(together_N[self._used], seed=[config.seed, number, 1])
        if not self._alone:
            self._source = stream(classes.source_M, seed=[config.seed, number, 0], sets=context.source.sets)

    def plan(self, epoch: int) -> BatchPlan:
        """An epoch's global batches."""
        if self._alone:
            index_SB = plan_one(self._target, epoch, self._batch).index_SB
            plan = BatchPlan(np.full_like(index_SB, TARGET), self._used[index_SB])
        else:
            mixed = plan_mixed(self._source, self._target, epoch, self._batch, self.group)
            index_SB, is_target = mixed.index_SB.copy(), mixed.domain_SB == TARGET
            index_SB[is_target] = self._used[index_SB[is_target]]
            plan = BatchPlan(mixed.domain_SB, index_SB)
        self._classes_SB = self._classes_I[plan.index_SB + plan.domain_SB * self._first_target]
        return plan

    def loss(self, batch: Batch, epoch: int) -> LossTerms:
        """Each domain's share of the mean over the batch."""
        f_BD, pooled_BD = self.engine.forward(batch.images_BCHW)
        self._seen.append(f_BD.detach())
        sides = batch.sides
        class_B = self._kept_classes_I[batch.indices + sides.domain_B * self._first_target]
        images = {"source": sides.source_S, "target": sides.target_T}
        terms = {name: self.told_apart(f_BD, class_B, images[name], self._rows[name]) for name in images if len(images[name])}
        return terms | self.triplet(pooled_BD, batch, class_B[sides.source_S], class_B[sides.target_T])

    def told_apart(self, f_BD: Tensor, class_B: Tensor, images: Tensor, rows: slice) -> Tensor:
        """Some of the batch's images against some rows of the memory, among which are theirs."""
        known_KD, class_S = self._memory_KD[rows], class_B.index_select(0, images) - rows.start
        loss_S = contrastive_loss(f_BD.index_select(0, images), known_KD, class_S, self._settings.temperature)
        return loss_S.sum() / len(f_BD)

    def step(self, batch: Batch, epoch: int, weight: float) -> list[LossTerms]:
        """The weights' step, then the memory's: all of a step's losses see the memory that it began with."""
        self._seen = []
        terms = super().step(batch, epoch, weight)
        class_B = self._classes_SB[batch.step]
        f_BD = gather_slices(self._processes, torch.cat(self._seen), self.group, len(class_B))
        update_memory(self._memory_KD, f_BD, class_B, self._settings.momentum)
        return terms

    def state(self) -> dict[str, Any]:
        return {"optimizer": super().state(), "memory": self._memory_KD, "round": self._number}

    def diverged(self, what: str, epoch: int) -> str:
        return round_diverged(self._run, self._number, what, epoch)

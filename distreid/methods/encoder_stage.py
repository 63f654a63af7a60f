"""What stages of all methods with an :class:`~distreid.models.EncoderNetwork` do alike: pre-training on the source; beside their
paper's, the mean teacher that follows and a triplet term."""

from __future__ import annotations

import shlex
from abc import abstractmethod

import torch
from torch import Tensor

from distreid.common.transfer import keep
from distreid.data.loader import Batch
from distreid.data.sampling import BatchPlan, make_stream, plan_one
from distreid.losses import label_smoothing_loss, triplet_loss
from distreid.methods.engines import make_engine
from distreid.models import EncoderNetwork
from distreid.training.context import Context
from distreid.training.engine import Engine
from distreid.training.rundir import RunDirectory
from distreid.training.stage import LossTerms, SingleEngineStage


class EncoderStage(SingleEngineStage):
    """Trains a network by ``engine``."""

    def __init__(self, context: Context, model: EncoderNetwork, engine: Engine, title: str, epochs: int) -> None:
        config = context.config
        super().__init__(engine, title, epochs, config.model.batchnorm_group, config.runtime.accumulate)
        self._network, self._teacher, self._loss = model, config.model.teacher, config.loss

    def step(self, batch: Batch, epoch: int, weight: float) -> list[LossTerms]:
        terms = super().step(batch, epoch, weight)
        self._network.follow(self._teacher)
        return terms

    def triplet(self, pooled_BD: Tensor, batch: Batch, source_S: Tensor, target_T: Tensor) -> LossTerms:
        """The batch-hard triplet term (Hermans et al. 2017) of each domain's images, its share of the mean over the images.

        Tuples are of one domain and of one group of images that share BatchNorm's statistics, so that neither the number of workers
        nor the parts of a slice change them.

        Args:
            pooled_BD: what stands before the neck, where such a loss belongs (Luo et al. 2019).
            source_S, target_T: who is on the batch's images of a domain, int64; one may be empty.
        """
        if not self._loss.triplet:
            return {}
        groups, terms = len(pooled_BD) // self.group, []
        for rows, labels in ((batch.sides.source_S, source_S), (batch.sides.target_T, target_T)):
            if len(rows):
                f_GgD = pooled_BD.index_select(0, rows).unflatten(0, (groups, -1))
                pairs = zip(f_GgD, labels.unflatten(0, (groups, -1)), strict=True)
                losses = [triplet_loss(f_gD, labels_g, margin=self._loss.triplet_margin) for f_gD, labels_g in pairs]
                terms.append(len(rows) / len(pooled_BD) * torch.stack(losses).mean())
        return {"triplet": self._loss.triplet * torch.stack(terms).sum()}


def round_diverged(run: RunDirectory, number: int, what: str, epoch: int) -> str:
    """What to do about a round whose loss or weights are no longer finite: its source model is good still."""
    return (
        f"round {number}, epoch {epoch + 1}: {what} is not finite; start again in a new output with lower "
        f"adapt.optimizer.lr_backbone and lr_new, and pretrain.checkpoint={shlex.quote(str(run.path))} to keep the source model"
    )


class SourceStage(EncoderStage):
    """Pre-training: the source's identities told apart by a classifier, L_cro_s (Eq. 3 of Huang et al., AAAI 2020)."""

    def __init__(self, context: Context, model: EncoderNetwork) -> None:
        source, settings = context.source, context.config.pretrain
        assert source.labels is not None
        self._settings, self._labels = settings, keep(source.labels, context.processes.device)
        trained, backbone = model.trained_on_source(), model.student().backbone
        engine = make_engine(context, model, backbone, settings.optimizer, settings.epochs, trained, domains="source")
        super().__init__(context, model, engine, "pre-training", settings.epochs)
        seed = [context.config.seed, 0, 0]
        self._stream = make_stream(source.labels, settings.sampler, settings.instances, seed, source.sets)

    @abstractmethod
    def classify(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [B, N_ids] of the batch's images, and what stands before the neck [B, c]."""

    def plan(self, epoch: int) -> BatchPlan:
        return plan_one(self._stream, epoch, self._settings.batch_size)

    def loss(self, batch: Batch, epoch: int) -> LossTerms:
        logits_BN, pooled_Bc = self.classify(batch)
        source_B = self._labels[batch.indices]
        terms = {"source": label_smoothing_loss(logits_BN, source_B, self._settings.smoothing)}
        return terms | self.triplet(pooled_Bc, batch, source_B, source_B[:0])

    def diverged(self, what: str, epoch: int) -> str:
        return (
            f"pre-training, epoch {epoch + 1}: {what} is not finite; start again in a new output with lower "
            "pretrain.optimizer.lr_backbone and lr_new"
        )

"""What trains in DAAM's Algorithm 1: line 1 on the source, line 6 on both domains."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from distreid.data.loader import Batch
from distreid.data.sampling import TARGET, BatchPlan, make_stream, plan_mixed, plan_one
from distreid.methods.daam.losses import Identities, soft_labels, source_identity_loss, total_loss
from distreid.methods.engines import make_engine
from distreid.models import DAAMNet, parameters_of
from distreid.training.context import Context
from distreid.training.protocols import RoundLabels
from distreid.training.stage import LossTerms, SingleEngineStage


class Pretraining(SingleEngineStage):
    """Line 1: the source identity loss only (Eq. 3)."""

    def __init__(self, context: Context, model: DAAMNet) -> None:
        assert context.source.labels is not None
        config = context.config
        self._settings, self._labels, self._device = config.pretrain, context.source.labels, context.processes.device
        trained = parameters_of([model.backbone, model.attention, model.neck, model.source_head])
        engine = make_engine(context, model, model.backbone, self._settings.optimizer, self._settings.epochs, trained)
        super().__init__(engine, "pre-training", self._settings.epochs, config.model.batchnorm_group, config.runtime.accumulate)
        self._stream = make_stream(self._labels, self._settings.sampler, self._settings.instances, [config.seed, 0, 0])

    def plan(self, epoch: int) -> BatchPlan:
        return plan_one(self._stream, epoch, self._settings.batch_size)

    def loss(self, batch: Batch, epoch: int) -> LossTerms:
        output = self.engine.forward(batch.images_BCHW, _on(self._device, batch.domain_B))
        source_S = _on(self._device, self._labels[batch.index_B])
        return {"source": source_identity_loss(output.source_logits_SN, source_S, self._settings.smoothing)}

    def diverged(self, what: str, epoch: int) -> str:
        return (
            f"pre-training, epoch {epoch + 1}: {what} is not finite; start again in a new output with lower "
            "pretrain.optimizer.lr_backbone and lr_new"
        )


class Adaptation(SingleEngineStage):
    """Line 6 of round ``number``: Eq. 7 on source and target, with the round's pseudo-labels."""

    def __init__(self, context: Context, model: DAAMNet, number: int, labels: RoundLabels) -> None:
        assert context.source.labels is not None
        config, settings = context.config, context.config.adapt
        self._config, self._number, self._run = config, number, context.run_directory
        self._device, self._source_labels, self._labels = context.processes.device, context.source.labels, labels
        self._centers_KD = _on(self._device, labels.pseudo.centers)
        self._clustered = np.flatnonzero(labels.pseudo.labels >= 0)  # outliers take no part in the round
        engine = make_engine(context, model, model.backbone, settings.optimizer, settings.epochs, parameters_of([model]))
        title = f"training, round {number} of {settings.rounds}"
        super().__init__(engine, title, settings.epochs, config.model.batchnorm_group, config.runtime.accumulate)
        stream = partial(make_stream, sampler=settings.sampler, instances=settings.instances)
        self._source = stream(self._source_labels, seed=[config.seed, number, 0])
        self._target = stream(labels.pseudo.labels[self._clustered], seed=[config.seed, number, 1])

    def plan(self, epoch: int) -> BatchPlan:
        group, batch = self._config.model.batchnorm_group, self._config.adapt.batch_size
        mixed = plan_mixed(self._source, self._target, epoch, batch, group)
        is_target = mixed.domain_SB == TARGET
        index_SB = mixed.index_SB.copy()
        index_SB[is_target] = self._clustered[index_SB[is_target]]
        return BatchPlan(mixed.domain_SB, index_SB)

    def loss(self, batch: Batch, epoch: int) -> LossTerms:
        domain_B = _on(self._device, batch.domain_B)
        output = self.engine.forward(batch.images_BCHW, domain_B)
        return total_loss(output, domain_B, self.identities(batch), self._config.loss)

    def identities(self, batch: Batch) -> Identities:
        """The source's identities, the target's pseudo-labels and, where they are used, its soft labels."""
        is_target, settings = batch.domain_B == TARGET, self._config.loss
        index_T = batch.index_B[is_target]
        source_S = _on(self._device, self._source_labels[batch.index_B[~is_target]])
        target_T = _on(self._device, self._labels.pseudo.labels[index_T])
        weights_TK = soft_labels(self._labels, self._centers_KD, index_T, target_T, settings) if settings.target == "soft" else None
        return Identities(source_S, target_T, weights_TK)

    def diverged(self, what: str, epoch: int) -> str:
        return (
            f"round {self._number}, epoch {epoch + 1}: {what} is not finite; start again in a new output with lower "
            f"adapt.optimizer.lr_backbone and lr_new, and pretrain.checkpoint={self._run.path} to keep the source model"
        )


def _on(device: torch.device, array: np.ndarray) -> Tensor:
    return torch.tensor(array, device=device)

"""What trains in DAAM's Algorithm 1: line 1 on the source, line 6 on both domains."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from distreid.common.transfer import keep
from distreid.data.loader import Batch
from distreid.data.sampling import TARGET, BatchPlan, make_stream, plan_mixed
from distreid.methods.daam.losses import Identities, soft_labels, total_loss
from distreid.methods.encoder_stage import EncoderStage, SourceStage, round_diverged
from distreid.methods.engines import make_engine
from distreid.methods.norms import frozen
from distreid.models import DAAMNet
from distreid.training.context import Context
from distreid.training.protocols import RoundLabels
from distreid.training.stage import LossTerms


class Pretraining(SourceStage):
    """Line 1: the source identity loss only (Eq. 3)."""

    def classify(self, batch: Batch) -> tuple[Tensor, Tensor]:
        output = self.engine.forward(batch.images_BCHW, (batch.sides.source_S, batch.sides.target_T))
        return output.source_logits_SN, output.pooled_Bc


class Adaptation(EncoderStage):
    """Line 6 of round ``number``: Eq. 7 on source and target, with the round's pseudo-labels."""

    def __init__(self, context: Context, model: DAAMNet, number: int, labels: RoundLabels) -> None:
        assert context.source.labels is not None
        config, settings, device = context.config, context.config.adapt, context.processes.device
        self._config, self._number, self._run = config, number, context.run_directory
        # On the device for the whole round, the features too: a step only says which images it shows.
        self._source_labels, self._target_labels = keep(context.source.labels, device), keep(labels.pseudo.labels, device)
        soft = config.loss.target == "soft"
        self._features_ND = keep(labels.features_ND, device) if soft else None
        self._centers_KD, self._normalized = keep(labels.pseudo.centers, device), labels.pseudo.normalized
        self._clustered = np.flatnonzero(labels.pseudo.labels >= 0)  # outliers take no part in the round
        engine = make_engine(
            context, model, model.backbone, settings.optimizer, settings.epochs, model.trained(), frozen=frozen(model, settings)
        )
        title = f"training, round {number} of {settings.rounds}"
        super().__init__(context, model, engine, title, settings.epochs)
        stream = partial(make_stream, sampler=settings.sampler, instances=settings.instances)
        self._source = stream(context.source.labels, seed=[config.seed, number, 0], sets=context.source.sets)
        self._target = stream(labels.pseudo.labels[self._clustered], seed=[config.seed, number, 1])

    def plan(self, epoch: int) -> BatchPlan:
        group, batch = self._config.model.batchnorm_group, self._config.adapt.batch_size
        mixed = plan_mixed(self._source, self._target, epoch, batch, group)
        is_target = mixed.domain_SB == TARGET
        index_SB = mixed.index_SB.copy()
        index_SB[is_target] = self._clustered[index_SB[is_target]]
        return BatchPlan(mixed.domain_SB, index_SB)

    def loss(self, batch: Batch, epoch: int) -> LossTerms:
        sides = batch.sides
        output = self.engine.forward(batch.images_BCHW, (sides.source_S, sides.target_T))
        who = self.identities(batch)
        terms = total_loss(output, sides.domain_B, who, self._config.loss)
        return terms | self.triplet(output.pooled_Bc, batch, who.source_S, who.target_T)

    def identities(self, batch: Batch) -> Identities:
        """The source's identities, the target's pseudo-labels and, where they are used, its soft labels."""
        index_T = batch.indices[batch.sides.target_T]
        source_S, target_T = self._source_labels[batch.indices[batch.sides.source_S]], self._target_labels[index_T]
        if self._features_ND is None:
            return Identities(source_S, target_T, None)
        features_TD = self._features_ND[index_T]
        weights_TK = soft_labels(features_TD, self._centers_KD, target_T, self._config.loss, normalized=self._normalized)
        return Identities(source_S, target_T, weights_TK)

    def diverged(self, what: str, epoch: int) -> str:
        return round_diverged(self._run, self._number, what, epoch)

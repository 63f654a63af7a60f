"""contrast: rounds of clustering the target and training against a memory of classes, after SpCL (Ge et al., NeurIPS 2020) and
Cluster Contrast (Dai et al., ACCV 2022), on one process or many."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distreid.data.sampling import shard
from distreid.methods.contrast.classes import Classes
from distreid.methods.contrast.config import ContrastConfig
from distreid.methods.contrast.memory import class_centers
from distreid.methods.contrast.network import ContrastNet, build_model
from distreid.methods.contrast.stages import Adaptation, Pretraining
from distreid.methods.rounds import Rounds
from distreid.training.checkpoints import Checkpoints
from distreid.training.context import Context
from distreid.training.meters import timed
from distreid.training.protocols import RoundLabels

# Of a source model: classifiers, and what only the domain classifier looks through.
LEFT_BEHIND = ("source_head.", "target_head.", "domain_head.", "specific_attention.")


class CarryingCheckpoints(Checkpoints):
    """Keeps the optimiser between the rounds too: one of them trains through all.

    Attributes:
        carried: what the last stage to train gave of its state; None before the first.
    """

    carried: dict[str, Any] | None = None

    def resume(self, rounds: int) -> None:
        super().resume(rounds)
        self.carried = self.take_optimizer()

    def save(self, optimizer: dict[str, Any] | None = None) -> None:
        self.carried = optimizer or self.carried
        super().save(self.carried)


class Contrast(Rounds[ContrastNet]):
    """One process's part of a run."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, build_model)
        self.keeper = CarryingCheckpoints(context, self.model, self.state)
        self.checkpoints = self.trainer.checkpoints = self.keeper

    def train_source(self) -> None:
        """The source's identities by a classifier; nothing where there is no source."""
        if len(self.context.source.train) and self.config.pretrain.epochs:
            self.train(Pretraining(self.context, self.model))
        self.keeper.carried = None

    def adapt(self, labels: RoundLabels) -> None:
        """Identities and clusters against each other, from the centres of this round's features."""
        source, pseudo, own = self.context.source, labels.pseudo, self.config.group(ContrastConfig)
        assert source.labels is not None
        classes = Classes.of(
            source.labels, source.identities, pseudo.labels, len(pseudo.centers), outliers=own.outliers == "classes"
        )
        memory_KD = self.memory()
        if memory_KD is None:
            with timed(self.state.figures["seconds"], "memory"):
                found = [pseudo.centers, labels.features_ND[classes.outliers]]
                memory_KD = torch.cat([self.source_centers(), *(self.unit(rows_KD) for rows_KD in found)])
        self.train(Adaptation(self.context, self.model, self.state.round, classes, memory_KD))

    def memory(self) -> Tensor | None:
        """The memory of this round, where it goes on."""
        saved = self.keeper.carried
        if saved is None or saved["round"] != self.state.round:
            return None
        return saved["memory"].to(self.context.processes.device)

    def train(self, stage: Pretraining | Adaptation) -> None:
        if self.keeper.carried is not None:
            stage.engine.load_optimizer_state(self.keeper.carried["optimizer"])
        self.trainer.fit(stage)

    def adopt(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of any method's source model the encoder, without classifiers. What else it has, such as an attention, is no part of this
        network: loading says so."""
        own = {name: value for name, value in self.model.state_dict().items() if name.startswith("source_head.")}
        return {name: value for name, value in weights.items() if not name.startswith(LEFT_BEHIND)} | own

    def source_centers(self) -> Tensor:
        """The centres of the source's identities by today's features, float32 [identities, D] on the training device."""
        source, processes = self.context.source, self.context.processes
        if not len(source.train):
            return torch.zeros(0, self.model.feature_channels, device=processes.device)
        assert source.labels is not None
        shard_nD = self.trainer.extract(source.train, "features of the source", domain="source")
        mine = shard(len(source.train), processes.rank, processes.world)
        return class_centers(processes, shard_nD, source.labels[mine], source.identities)

    def unit(self, rows_KD: np.ndarray) -> Tensor:
        """L2-normalised, float32, on the training device."""
        return F.normalize(torch.tensor(rows_KD, dtype=torch.float32, device=self.context.processes.device), dim=1)

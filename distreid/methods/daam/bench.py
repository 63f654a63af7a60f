"""A training step of DAAM without its data, for `distreid bench train`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from distreid.config import Config
from distreid.data.loader import Batch
from distreid.methods.daam.losses import source_identity_loss
from distreid.models import DAAMNet
from distreid.training.engine import Engine, Precision
from distreid.training.process_group import ProcessGroup


def training_step(config: Config, model: DAAMNet, precision: Precision) -> Callable[[Batch], None]:
    """Line 1 of Algorithm 1 on a batch of source images, whoever is on them. ``model`` is already placed on its device."""
    device = next(model.parameters()).device
    engine = Engine(
        model, [{"params": model.trained_on_source(), "lr": 1e-3}], lambda _: 1.0, ProcessGroup(device=device), precision
    )

    def step(batch: Batch) -> None:
        output = engine.forward(batch.images_BCHW, (batch.sides.source_S, batch.sides.target_T))
        engine.step(source_identity_loss(output.source_logits_SN, torch.zeros_like(batch.indices)))

    return step

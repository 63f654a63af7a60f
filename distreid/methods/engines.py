"""From a configured optimiser to what trains a network by it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from distreid.config import OptimizerConfig
from distreid.models import Domains, ReIDNetwork, freeze_statistics, train_on
from distreid.training.context import Context
from distreid.training.engine import Engine, learning_rate_factor


def make_engine(
    context: Context,
    model: ReIDNetwork,
    backbone: nn.Module,
    settings: OptimizerConfig,
    epochs: int,
    parameters: list[torch.nn.Parameter],
    *,
    domains: Domains = "mixed",
    before: int = 0,
    frozen: Iterable[nn.Parameter] = (),
) -> Engine:
    """An optimiser over some parameters, the backbone's at their own rate.

    Args:
        domains: whose images the batches hold.
        epochs: of the schedule of the rates, ``before`` of which have passed when the engine's first epoch begins.
        frozen: BatchNorms with a scale among these keep their statistics (:func:`distreid.methods.norms.frozen`).
    """
    own = {id(p) for p in backbone.parameters()}
    freeze_statistics(model, frozen)
    idle = {id(p) for p in train_on(model, domains)}
    parameters = [p for p in parameters if id(p) not in idle]
    groups = [
        {"params": [p for p in parameters if id(p) in own], "lr": settings.lr_backbone},
        {"params": [p for p in parameters if id(p) not in own], "lr": settings.lr_new},
    ]

    def factor(epoch: float) -> float:
        return learning_rate_factor(
            before + epoch,
            epochs=epochs,
            schedule=settings.schedule,
            step_epochs=settings.step_epochs,
            step_gamma=settings.step_gamma,
            warmup_epochs=settings.warmup_epochs,
        )

    runtime = context.config.runtime
    return Engine(
        model, groups, factor, context.processes, context.precision,
        optimizer=settings.name, momentum=settings.momentum, weight_decay=settings.weight_decay, clip=settings.clip,
        zero_stage=runtime.zero_stage if runtime.strategy == "deepspeed" else None, accumulate=runtime.accumulate,
    )  # fmt: skip

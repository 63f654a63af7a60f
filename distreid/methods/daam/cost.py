"""What a round of DAAM costs, for `distreid plan`."""

from __future__ import annotations

import torch

from distreid.config import Config
from distreid.methods.cost import Stage, count
from distreid.models import DAAMNet


def stages(model: DAAMNet, config: Config) -> tuple[Stage, ...]:
    """A round's training. ``model`` is on the meta device."""
    settings, group = config.adapt, config.model.batchnorm_group
    x_BCHW = torch.empty(group, 3, config.input.height, config.input.width)
    # All of the source: one head over the whole batch costs what two heads over its halves do.
    rows = torch.arange(group), torch.arange(0)

    def step() -> None:
        output = model.train()(x_BCHW, rows)
        logits = [output.source_logits_SN, output.domain_logits_B2]
        torch.stack([scores.sum() for scores in logits if scores is not None]).sum().backward()

    flops, kept = count(model, step)
    return (
        Stage(
            "train",
            settings.epochs,
            settings.batch_size // 2,
            settings.batch_size,
            flops / group * settings.batch_size,
            kept / group,
        ),
    )

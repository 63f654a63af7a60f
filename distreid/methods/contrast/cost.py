"""What a round of contrast costs, for `distreid plan`."""

from __future__ import annotations

import torch

from distreid.config import Config
from distreid.methods.contrast.network import ContrastNet
from distreid.methods.cost import Stage, count


def stages(model: ContrastNet, config: Config) -> tuple[Stage, ...]:
    """A round's training, without its products with the memory: one for each class and image, a thousandth of the network's work.
    ``model`` is on the meta device."""
    settings, group = config.adapt, config.model.batchnorm_group
    x_BCHW = torch.empty(group, 3, config.input.height, config.input.width)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in model.trained():
        parameter.requires_grad_(True)
    flops, kept = count(model, lambda: model.train()(x_BCHW).sum().backward())
    own = settings.batch_size // (2 if config.source.data else 1)
    return (Stage("train", settings.epochs, own, settings.batch_size, flops / group * settings.batch_size, kept / group),)

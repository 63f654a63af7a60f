"""From the group `model` to how a network normalises batches."""

from __future__ import annotations

from torch import nn

from distreid.config import ModelConfig
from distreid.models import domain_batchnorm, group_batchnorm


def set_norms(model: nn.Module, settings: ModelConfig) -> None:
    """Over groups of images, and where it is asked for with a BatchNorm for each domain."""
    group_batchnorm(model, settings.batchnorm_group)
    if settings.domain_batchnorm:
        domain_batchnorm(model)

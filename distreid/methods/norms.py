"""From the configuration to how a network normalises batches."""

from __future__ import annotations

from torch import nn

from distreid.config import AdaptConfig, ModelConfig
from distreid.models import EncoderNetwork, domain_batchnorm, group_batchnorm


def set_norms(model: nn.Module, settings: ModelConfig) -> None:
    """Over groups of images, and where it is asked for with a BatchNorm for each domain."""
    group_batchnorm(model, settings.batchnorm_group)
    if settings.domain_batchnorm:
        domain_batchnorm(model)


def frozen(model: EncoderNetwork, settings: AdaptConfig) -> list[nn.Parameter]:
    """The weights whose BatchNorms keep their statistics in the rounds: what the source stage trains, for the rest has none yet."""
    return model.trained_on_source() if settings.batchnorm != "batch" else []

"""From a configuration to DAAM's network."""

from __future__ import annotations

from distreid.config import Config
from distreid.models import DAAMNet, build_backbone, group_batchnorm


def build_model(config: Config, identities: int, *, weights: bool = True) -> DAAMNet:
    """``weights`` False where a checkpoint's follow."""
    how = config.model
    size = config.input.height, config.input.width
    backbone = build_backbone(how.backbone, how.weights if weights else "none", how.last_stride, size)
    model = DAAMNet(
        backbone,
        identities,
        attention=how.attention,
        attention_start=how.attention_start,
        domain_branch=how.domain_branch,
        neck=how.neck,
    )
    group_batchnorm(model, how.batchnorm_group)
    return model

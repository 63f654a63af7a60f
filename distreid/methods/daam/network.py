"""From a configuration to DAAM's network."""

from __future__ import annotations

from distreid.config import Config
from distreid.methods.norms import set_norms
from distreid.models import DAAMNet, build_backbone


def build_model(config: Config, identities: int, *, weights: bool = True) -> DAAMNet:
    """``weights`` False where a checkpoint's follow."""
    settings = config.model
    size = config.input.height, config.input.width
    backbone = build_backbone(settings.backbone, settings.weights if weights else "none", settings.last_stride, size)
    model = DAAMNet(
        backbone,
        identities,
        attention=settings.attention,
        attention_start=settings.attention_start,
        domain_branch=settings.domain_branch,
        pooling=settings.pooling,
        neck=settings.neck,
        teacher=settings.teacher > 0,
    )
    set_norms(model, settings)
    return model

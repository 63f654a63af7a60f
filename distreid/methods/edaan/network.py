"""From a configuration to EDAAN's networks."""

from __future__ import annotations

from distreid.config import Config
from distreid.methods.edaan.config import EDAANConfig
from distreid.models import EDAAN, Sizes, group_batchnorm


def build_model(config: Config, identities: int, *, weights: bool = True) -> EDAAN:
    """From scratch, whatever ``weights`` says: the paper's networks start from no others."""
    settings = config.group(EDAANConfig)
    model = EDAAN(
        identities,
        Sizes(**vars(settings.network)),
        encoder={"edaan": "shared", "direct": "alone"}.get(settings.variant, "own"),  # type: ignore[arg-type]
        attention=settings.attention,
        pooling=config.model.pooling,
        feature=settings.feature,
    )
    group_batchnorm(model, settings.group * settings.views)
    return model

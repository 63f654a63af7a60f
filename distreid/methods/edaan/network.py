"""From a configuration to EDAAN's networks."""

from __future__ import annotations

from distreid.config import Config
from distreid.methods.edaan.config import EDAANConfig
from distreid.models import EDAAN, Sizes, group_batchnorm


def build_model(config: Config, identities: int, *, weights: bool = True) -> EDAAN:
    """From scratch, whatever ``weights`` says: the paper's networks start from no others."""
    how = config.group(EDAANConfig)
    model = EDAAN(
        identities,
        Sizes(**vars(how.network)),
        encoder={"edaan": "shared", "direct": "alone"}.get(how.variant, "own"),  # type: ignore[arg-type]
        attention=how.attention,
        feature=how.feature,
    )
    group_batchnorm(model, how.group * how.views)
    return model

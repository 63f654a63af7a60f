"""EDAAN, as the rest of the project knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distreid.config import Config, to_dict
from distreid.methods.edaan.config import EDAANConfig, check
from distreid.methods.edaan.report import REPORT
from distreid.methods.registry import MethodSpec, lazy

if TYPE_CHECKING:
    from distreid.models import ReIDNetwork


def matching(model: ReIDNetwork, name: str) -> bool:
    from distreid.models import EDAAN

    assert isinstance(model, EDAAN)
    encoder = "source.encoder." if model.own_encoder is None else "own_encoder."
    return name.startswith((encoder, "head.stages.", "head.gem.", *(["head.embedding."] if model.feature == "embedding" else [])))


def describe(model: ReIDNetwork, config: Config) -> tuple[str, dict[str, Any]]:
    kind = "128-d embedding" if config.group(EDAANConfig).feature == "embedding" else "pooled vector"
    return f"the {kind} of Khatun et al. (EDAAN)", to_dict(config)["edaan"]["network"] | {"pooling": config.model.pooling}


RENAMED = {
    "kept_view": "foreground_view",  # 0.1.0
    "keep_weight": "area_prior_weight",  # 0.1.0
    "keep_area": "area_prior",  # 0.1.0
}

SPEC = MethodSpec(
    name="edaan",
    title="EDAAN (Khatun et al.)",
    method=lazy("distreid.methods.edaan.algorithm:EDAANMethod"),
    build_model=lazy("distreid.methods.edaan.network:build_model"),
    check=check,
    matching=matching,
    describe=describe,
    group=EDAANConfig,
    network=lambda config: f"EDAAN ({config.group(EDAANConfig).variant})",
    labels_target=False,
    parts=("model.pooling",),  # of its re-ID head
    renamed=RENAMED,
    translates=lambda config: config.group(EDAANConfig).translates,
    translate=lazy("distreid.methods.edaan.translate:translate"),
    report=REPORT,
)

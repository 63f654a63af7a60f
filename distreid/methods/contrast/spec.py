"""contrast, as the rest of the project knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distreid.config import Config, to_dict
from distreid.methods.batches import check_data
from distreid.methods.contrast.config import DEFAULTS, ContrastConfig, check
from distreid.methods.contrast.report import REPORT
from distreid.methods.registry import MethodSpec, lazy

if TYPE_CHECKING:
    from distreid.models import ReIDNetwork


def matching(model: ReIDNetwork, name: str) -> bool:
    from distreid.methods.contrast.network import ContrastNet

    assert isinstance(model, ContrastNet)
    return name.startswith("encoder." if model.teacher is None else "teacher.")


def describe(model: ReIDNetwork, config: Config) -> tuple[str, dict[str, Any]]:
    tree = to_dict(config)
    return "the pooled feature map behind its neck (contrast)", tree["model"] | {"pooling": tree["contrast"]["pooling"]}


SPEC = MethodSpec(
    name="contrast",
    title="Contrast (after Ge et al., NeurIPS 2020, and Dai et al., ACCV 2022)",
    method=lazy("distreid.methods.contrast.algorithm:Contrast"),
    build_model=lazy("distreid.methods.contrast.network:build_model"),
    check=check,
    matching=matching,
    describe=describe,
    group=ContrastConfig,
    defaults=DEFAULTS,
    source_free=True,
    check_data=check_data,
    source_model=lambda config: config,
    report=REPORT,
)

"""DAAM, as the rest of the project knows it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from distreid.config import Config, to_dict
from distreid.methods.batches import check, check_data
from distreid.methods.daam.report import REPORT
from distreid.methods.registry import MethodSpec, lazy

if TYPE_CHECKING:
    from distreid.models import ReIDNetwork

HEADS = ("source_head.", "target_head.", "domain_head.", "specific_attention.")  # take no part in f_sh


def matching(model: ReIDNetwork, name: str) -> bool:
    return not name.startswith(HEADS)


def describe(model: ReIDNetwork, config: Config) -> tuple[str, dict[str, Any]]:
    return "f_sh of Huang et al. (AAAI 2020)", to_dict(config)["model"]


def source_model(config: Config) -> Config:
    """Line 1 of Algorithm 1 trains neither the domain branch nor an attention of its own: see ``DAAM.adopt``."""
    model = replace(config.model, domain_branch=False)
    return replace(config, model=model if model.attention == "none" else replace(model, attention="shared"))


SPEC = MethodSpec(
    name="daam",
    title="DAAM (Huang et al., AAAI 2020)",
    method=lazy("distreid.methods.daam.algorithm:DAAM"),
    build_model=lazy("distreid.methods.daam.network:build_model"),
    check=check,
    matching=matching,
    describe=describe,
    check_data=check_data,
    source_model=source_model,
    bench=lazy("distreid.methods.daam.bench:training_step"),
    report=REPORT,
)

"""The settings of method: contrast, their defaults and where those come from: the group ``contrast`` of :mod:`distreid.config`.

SpCL is Ge et al. (NeurIPS 2020), Cluster Contrast is Dai et al. (ACCV 2022); *decided* marks what neither says.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from distreid.common.errors import UserError
from distreid.common.settings import SETTINGS, Number
from distreid.config import Config
from distreid.methods.batches import check as check_batches


@dataclass(config=SETTINGS)
class ContrastConfig:
    """Clusters, and the source's identities, as classes of a memory that follows the features: SpCL and Cluster Contrast.

    The rest stands in the common groups: `model` (without attention and domain_branch, with a neck always), `pretrain`, `labels`,
    `loss.triplet` and `adapt`.
    """

    temperature: Number = Field(default=0.05, gt=0, description="tau: a similarity is divided by it; SpCL, Cluster Contrast")
    momentum: Number = Field(
        default=0.2, ge=0, le=1, description="mu: what stays of a class when an image of it passes; SpCL 0.2, Cluster Contrast 0.1"
    )
    against: Literal["domain", "all"] = Field(
        default="domain",
        description="what an image is told from. domain: the classes of its own domain (decided: no credit for telling the domains"
        " apart, docs/results.md); all: the source's and the target's (SpCL)",
    )
    outliers: Literal["drop", "classes"] = Field(
        default="drop",
        description="target images outside the clusters. drop: they sit the round out (Cluster Contrast); classes: each is a class"
        " of its own (SpCL)",
    )


# Both papers', where not marked.
DEFAULTS: dict[str, Any] = {
    "input.height": 256,
    "input.width": 128,
    "model.pooling": "gem",
    "pretrain.epochs": 20,  # decided: neither has a stage of its own for the source, but labels need a model to begin with
    "pretrain.smoothing": 0.1,  # Luo et al. 2019
    "adapt.rounds": 50,
    "adapt.epochs": 1,
    "pretrain.batch_size": 64,
    "adapt.batch_size": 128,  # 64 of each domain
    "adapt.optimizer.step_epochs": 20,  # of all rounds' epochs
}
DEFAULTS |= {"labels.eps": "quality"}  # decided: neither says how to know eps, docs/results.md
DEFAULTS |= {"adapt.sampler": "pk", "adapt.instances": 4, "adapt.batchnorm": "frozen"}  # batchnorm: decided, docs/results.md
for _stage in ("pretrain", "adapt"):
    DEFAULTS |= {
        f"{_stage}.optimizer.{key}": value for key, value in {"name": "adamw", "lr_backbone": 3.5e-4, "lr_new": 3.5e-4}.items()
    }


def check(config: Config) -> None:
    """Combinations that cannot work."""
    free = not config.source.given
    check_batches(config, mixed=not free)
    if free and config.model.weights == "none" and not config.pretrain.checkpoint:
        raise UserError(
            "source.data is empty, and an untrained network has nothing to tell people by: set pretrain.checkpoint or model.weights"
        )

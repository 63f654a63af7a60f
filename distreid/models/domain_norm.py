"""Domain-specific batch normalisation (Chang et al., CVPR 2019): each domain its own statistics, scale and offset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from distreid.models.network import copy_of
from distreid.models.norm import GroupedBatchNorm2d

Domains = Literal["source", "target", "mixed"]
"""Whose images a batch holds. Of a mixed one, the first half of each group is the source's, the second the target's."""


class DomainBatchNorm(nn.Module):
    """A :class:`GroupedBatchNorm2d` for each domain, by whose images it sees.

    Which are whose is not looked up: in training a batch is laid out in whole groups of ``group`` images, as :data:`Domains` says;
    in evaluation it is of one domain.

    Attributes:
        training_on: set by :func:`train_on`.
        matching_on: set by :func:`match_on`; a network is made for the target.
    """

    def __init__(self, layer: GroupedBatchNorm2d) -> None:
        super().__init__()
        self.source, self.target, self.group = layer, copy_of(layer), layer.group
        self.training_on: Domains = "mixed"
        self.matching_on: Literal["source", "target"] = "target"

    def forward(self, x_BCHW: Tensor) -> Tensor:
        shown = self.training_on if self.training else self.matching_on
        if shown != "mixed":
            return self.source(x_BCHW) if shown == "source" else self.target(x_BCHW)
        if len(x_BCHW) % self.group:
            raise ValueError(f"a training batch of {len(x_BCHW)} images is not a multiple of the group of {self.group}")
        halves = x_BCHW.split(self.group // 2)
        sides = [layer(torch.cat(halves[side::2])) for side, layer in enumerate((self.source, self.target))]
        pairs = zip(*(side_BCHW.split(self.group // 2) for side_BCHW in sides), strict=True)
        return torch.cat([half_BCHW for pair in pairs for half_BCHW in pair])


def domain_batchnorm(model: nn.Module) -> nn.Module:
    """Give each BatchNorm of a model that :func:`~distreid.models.norm.group_batchnorm` has grouped a twin, in place."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, GroupedBatchNorm2d):
                setattr(parent, name, DomainBatchNorm(layer))
    return model


def _layers(model: nn.Module) -> Iterator[DomainBatchNorm]:
    return (module for module in model.modules() if isinstance(module, DomainBatchNorm))


def train_on(model: nn.Module, domains: Domains) -> list[nn.Parameter]:
    """Say whose images the training batches hold. Returns the weights that none of them passes: they cannot be trained."""
    idle: list[nn.Parameter] = []
    for layer in _layers(model):
        layer.training_on = domains
        layer.source.group = layer.target.group = layer.group // 2 if domains == "mixed" else layer.group
        if domains != "mixed":
            idle += (layer.target if domains == "source" else layer.source).parameters()
    return idle


def match_on(model: nn.Module, domain: Literal["source", "target"]) -> None:
    """Say whose images are shown in evaluation mode."""
    for layer in _layers(model):
        layer.matching_on = domain


def begin_target(model: nn.Module) -> None:
    """Let the target, of which nothing is known yet, begin with what the source has learnt."""
    for layer in _layers(model):
        layer.target.load_state_dict(layer.source.state_dict())


def is_source_statistics(model: nn.Module, name: str) -> bool:
    """Whether a weight, by its name, is of the source's side of such a layer."""
    layer, _, side = name.rpartition(".")[0].rpartition(".")
    return side == "source" and isinstance(model.get_submodule(layer), DomainBatchNorm)


def under_domain_names(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Another network's weights, by the names of this one: one BatchNorm serves both domains, of two the target's serves alone."""
    twins = {name for name, module in model.named_modules() if isinstance(module, DomainBatchNorm)}
    single = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        layer, _, leaf = name.rpartition(".")
        above, _, side = layer.rpartition(".")
        if layer in twins:
            found |= {f"{layer}.source.{leaf}": value, f"{layer}.target.{leaf}": value}
        elif above in single and side in ("source", "target"):
            found |= {f"{above}.{leaf}": value} if side == "target" else {}
        else:
            found[name] = value
    return found

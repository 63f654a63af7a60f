"""The whole configuration: the groups, and those that methods bring."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, create_model
from pydantic.dataclasses import dataclass

from distreid.common.settings import SETTINGS, Whole
from distreid.config.data import DomainConfig, InputConfig
from distreid.config.model import ModelConfig
from distreid.config.runtime import RuntimeConfig
from distreid.config.training import AdaptConfig, EvaluateConfig, LossConfig, PretrainConfig
from distreid.labels.settings import LabelSettings


@dataclasses.dataclass(frozen=True)
class MethodSettings:
    """What a method brings to the configuration.

    Attributes:
        group: a dataclass of its own settings, found under the method's name; None where the common groups are enough.
        check: finds combinations that cannot work, and raises UserError.
        renamed: old key of the group -> its name today.
        defaults: dotted keys of the common groups -> what they are with this method where a file leaves them out.
        source_free: source.data may be empty.
        parts: those of :data:`PARTS` that it has.
    """

    group: type | None
    check: Callable[[Config], None]
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source_free: bool = False
    parts: tuple[str, ...] = ()


PARTS = ("model.pooling", "model.teacher", "model.domain_batchnorm", "adapt.batchnorm", "loss.triplet")
"""Dotted keys of what is no paper's, off by default: a method that lacks a part refuses its key."""

METHODS: dict[str, MethodSettings] = {}
"""By the method's name. :mod:`distreid.methods.registry`, which importing distreid brings, fills it."""

Group = TypeVar("Group")


def own_groups() -> dict[str, type]:
    """The groups of the methods that have one, by the method's name."""
    return {name: settings.group for name, settings in METHODS.items() if settings.group is not None}


@dataclass(config=SETTINGS)
class Config:
    """An experiment."""

    method: str = Field(default="daam", description="what is trained, and how")
    seed: Whole = Field(default=0, ge=0, description="of everything that is left to chance; the same seed gives the same run")
    output: str = Field(default="", description="the run directory; required")
    source: DomainConfig = Field(default_factory=DomainConfig)
    target: DomainConfig = Field(default_factory=DomainConfig)
    input: InputConfig = Field(default_factory=InputConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    pretrain: PretrainConfig = Field(default_factory=PretrainConfig)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    loss: LossConfig = Field(default_factory=LossConfig)
    adapt: AdaptConfig = Field(default_factory=AdaptConfig)
    # Of each method that has settings of its own, by its name; in a file they stand beside the other groups (edaan: {epochs: 3}).
    groups: dict[str, Any] = Field(default_factory=lambda: {name: group() for name, group in own_groups().items()})
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)

    def group(self, kind: type[Group]) -> Group:
        """The settings of the method that brought this type."""
        return next(group for group in self.groups.values() if isinstance(group, kind))


def file_model(*methods: str) -> type[BaseModel]:
    """A configuration as a file holds it: the methods' groups beside the others. Of all methods, unless some are named."""
    names = methods or tuple(METHODS)
    return _file_model(names, tuple((name, group) for name, group in own_groups().items() if name in names))


@lru_cache(maxsize=8)
def _file_model(names: tuple[str, ...], groups: tuple[tuple[str, type], ...]) -> type[BaseModel]:
    keys: dict[str, Any] = {}
    for name, info in Config.__pydantic_fields__.items():  # type: ignore[attr-defined]
        if name == "groups":
            keys |= {method: (group, Field(default_factory=group)) for method, group in groups}
        else:
            keys[name] = (Literal[names] if name == "method" else info.annotation, info)
    return create_model("Configuration", __config__=SETTINGS | {"protected_namespaces": ()}, __doc__=Config.__doc__, **keys)

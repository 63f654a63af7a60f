"""The methods that `method:` may name, each described by one :class:`MethodSpec`.

All that the rest of the project knows of a method, it knows from here: to add one, write its folder and a line in :data:`_METHODS`.
No import here may bring torch: `distreid status` is to be quick.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

from distreid import config
from distreid.common.errors import UserError
from distreid.config import Config, MethodSettings
from distreid.methods.spec import ReportSpec

if TYPE_CHECKING:
    from distreid.data.loader import Batch
    from distreid.models import ReIDNetwork
    from distreid.training.context import Context
    from distreid.training.domains import DomainData
    from distreid.training.engine import Precision


class Method(Protocol):
    """One process's part of a run."""

    def run(self) -> dict[str, Any]:
        """Train to the end, from the last checkpoint where there is one. Returns what result.json holds."""
        ...


def _nothing(*_: Any) -> None: ...


def _backbone(config: Config) -> str:
    return config.model.backbone


def _never(_: Config) -> bool:
    return False


@dataclass(frozen=True)
class MethodSpec:
    """What a method is, for everybody who does not know it. Callables that need torch are :func:`lazy`.

    Attributes:
        name: the value of `method:`, and of the method's own group of settings.
        title: the method as its paper calls it.
        method: makes one process's part of a run.
        build_model: (configuration, source identities) -> network; ``weights=False`` where a checkpoint's follow.
        check: combinations of settings that cannot work; raises UserError.
        matching: whether a weight, by its name, takes part in what is matched: what an export keeps.
        describe: what is matched, and the settings that the network is built from, for the metadata of an export.
        group: the dataclass of the method's own settings; None where the common groups are enough.
        renamed: old key of the group -> its name today; files with the old one go on working.
        defaults: dotted keys of the common groups (adapt.epochs) -> what they are with this method where a file leaves them out.
        source_free: it trains without a labelled source too, where source.data is empty; `check` says what that asks.
        check_data: what must hold of the opened source and target, before a run directory is made; raises UserError.
        source_model: a configuration, to the one whose pre-training makes its source model: less what pre-training does not train.
            Runs for which that is the same can share one (pretrain.checkpoint). None: they cannot.
        network: what a configuration trains, in a word or two.
        labels_target: whether it makes pseudo-labels of the target round by round; else it passes over the source in stages.
        translates: whether a run of this configuration leaves a translator.
        translate: writes a data set in another domain's style, as :func:`distreid.methods.edaan.translate.translate` does.
        bench: one training step on a batch, as `distreid bench train` times it.
        report: how the report tells of a run.
    """

    name: str
    title: str
    method: Callable[[Context], Method]
    build_model: Callable[..., ReIDNetwork]
    check: Callable[[Config], None]
    matching: Callable[[ReIDNetwork, str], bool]
    describe: Callable[[ReIDNetwork, Config], tuple[str, dict[str, Any]]]
    group: type | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    source_free: bool = False
    check_data: Callable[[Config, DomainData, DomainData], None] = _nothing
    source_model: Callable[[Config], Config] | None = None
    network: Callable[[Config], str] = _backbone
    labels_target: bool = True
    translates: Callable[[Config], bool] = _never
    translate: Callable[..., Any] | None = None
    bench: Callable[[Config, ReIDNetwork, Precision], Callable[[Batch], None]] | None = None
    report: ReportSpec | None = None


def lazy(place: str) -> Callable[..., Any]:
    """The callable at "module:name", imported when it is first called."""
    module, _, name = place.partition(":")

    def call(*arguments: Any, **keywords: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments, **keywords)

    return call


SPECS: dict[str, MethodSpec] = {}


def register(spec: MethodSpec) -> None:
    """Let `method:` name a method, and let its group of settings stand in the configuration.

    Raises:
        UserError: the name is taken, by another method or by a group of settings.
    """
    taken = {field.name for field in fields(Config)}
    if spec.name in SPECS or spec.name in taken or not spec.name.isidentifier():
        raise UserError(f"method '{spec.name}' cannot be registered: the name is taken, or no name")
    SPECS[spec.name] = spec
    config.METHODS[spec.name] = MethodSettings(spec.group, spec.check, spec.renamed, spec.defaults, spec.source_free)


def find(name: str) -> MethodSpec:
    """The method of a run's configuration.

    Raises:
        UserError: no such method.
    """
    try:
        return SPECS[name]
    except KeyError:
        raise UserError(f"method={name} is unknown: choose one of {', '.join(SPECS)}") from None


_METHODS = ("distreid.methods.daam.spec", "distreid.methods.edaan.spec", "distreid.methods.contrast.spec")
for _module in _METHODS:
    register(importlib.import_module(_module).SPEC)


def report_of(name: str) -> ReportSpec:
    """How runs of a method are told. One that this version does not know is shown by its name, as far as its files speak for it."""
    spec = SPECS.get(name)
    return (spec.report if spec is not None else None) or ReportSpec(name.upper())

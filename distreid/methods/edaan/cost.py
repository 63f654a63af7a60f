"""What the stages of EDAAN cost, for `distreid plan`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from distreid.config import Config
from distreid.methods.cost import Stage, count
from distreid.methods.edaan.config import EDAANConfig
from distreid.methods.edaan.objectives import DiscriminatorSide, GeneratorSide, Labelled, ReIDSide
from distreid.methods.edaan.stages import frozen
from distreid.models import EDAAN


def stages(model: EDAAN, config: Config) -> tuple[Stage, ...]:
    """The variant's stages. ``model`` is on the meta device."""
    # Mining the metric loss's tuples depends on data, and costs nothing beside the networks.
    settings = dataclasses.replace(config.group(EDAANConfig), metric="none")
    group, size = settings.group, (3, config.input.height, config.input.width)
    labelled = Labelled(
        torch.zeros(group, dtype=torch.int64), torch.ones(group * settings.views, model.head.HIDDEN, dtype=torch.bool)
    )
    joint = settings.variant == "edaan"

    def translate() -> None:
        generators = GeneratorSide(model.train(), settings, joint=joint, masked=False)
        source_S, target_T = torch.arange(2 * group).chunk(2)
        with frozen(model.discriminators()):
            terms, seen = generators(torch.empty(2 * group, *size), source_S, target_T, labelled)
            torch.stack(list(terms.values())).sum().backward()
        DiscriminatorSide(model, settings)(*seen).backward()

    def identify() -> None:
        terms = ReIDSide(model.train(), settings)(torch.empty(group, *size), labelled)
        torch.stack(list(terms.values())).sum().backward()

    def stage(name: str, epochs: int, sides: int, step: Callable[[], None]) -> Stage:
        flops, kept = count(model, step)
        parts = settings.batch_size / group
        return Stage(name, epochs, settings.batch_size, sides * settings.batch_size, flops * parts, kept / group / sides)

    found = []
    if settings.translates:
        name = "translation and re-ID" if joint else "translation"
        found.append(stage(name, settings.epochs + settings.decay_epochs, 2, translate))
    if not joint:
        found.append(stage("re-ID", settings.reid_epochs + settings.reid_decay_epochs, 1, identify))
    return tuple(found)

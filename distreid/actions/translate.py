"""A data set in another domain's style: what `distreid translate` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distreid.actions.train import open_packed
from distreid.common.errors import UserError
from distreid.common.terminal import bar
from distreid.config import DomainConfig
from distreid.methods.foreground import measure
from distreid.methods.local import training_device
from distreid.methods.networks import load_model
from distreid.methods.registry import SPECS, find


def translate(
    checkpoint: Path,
    data: str | None,
    format: str,
    out: Path,
    *,
    pattern: str = "",
    reverse: bool = False,
    splits: Sequence[str] = ("train",),
    ground_truth: Path | None = None,
    target_ground_truth: Path | None = None,
) -> tuple[Path, Path | None, dict[str, float]]:
    """A data set in another domain's style by a run's (or checkpoint's) translator; ``data`` None: the run's source (or target).

    ``format`` and ``pattern``: how to read data that are not packed.

    Returns the packed images, the packed masks of a model with attention and, where ``ground_truth`` names the folder of true
    foreground masks, what was changed of foreground and background (see :func:`distreid.methods.foreground.measure`).
    """
    model, config, file = load_model(checkpoint)
    translate_store = find(config.method).translate
    if translate_store is None:
        able = " or ".join(name for name, spec in SPECS.items() if spec.translate is not None)
        raise UserError(f"{file}: holds a model of method {config.method}; only {able} translates")
    own, other = (config.target, config.source) if reverse else (config.source, config.target)
    store = open_packed(own if data is None else DomainConfig(data=data, format=format, pattern=pattern))
    device = training_device(config.runtime.gpu)
    with bar("translating") as progress:
        images, masks = translate_store(
            model, config, store, out, reverse=reverse, splits=tuple(splits), device=device, progress=progress
        )
    if ground_truth is None:
        return images, masks, {}
    target = open_packed(other) if target_ground_truth is not None else None
    return images, masks, measure(store, ground_truth, images, masks, target=target, target_ground_truth=target_ground_truth)

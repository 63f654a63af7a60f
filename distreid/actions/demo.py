"""The main job on drawn data, small enough for a laptop."""

from __future__ import annotations

import logging
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from distreid.actions.train import train
from distreid.actions.translate import translate
from distreid.common.terminal import bar
from distreid.config import Config, config_from_dict
from distreid.data import pack
from distreid.data.synthetic import draw_domain
from distreid.methods.registry import find
from distreid.report.text import translation_text
from distreid.training import RunDirectory

log = logging.getLogger(__name__)

SOURCE, TARGET = "day", "night"


def demo(out: Path, *, method: str | None = None, seed: int = 0, overrides: list[str] | None = None) -> None:
    """Draw two camera networks beside ``out``, adapt from one to the other, log the table and write the report; where the
    method translates, also translate the source's training images and measure the translation against the true masks.

    A demo that was interrupted, or has ended, continues from where it stands.
    """
    data = out.with_name(f"{out.name}-data-{seed}")
    config = config_from_dict(synthetic_settings(data, seed, method) | {"output": str(out)}, overrides, where="demo")
    draw_pair(data, seed)
    train(config, resume=RunDirectory(out).config.exists())
    if find(config.method).translates(config):
        ground_truth, target_ground_truth = data / SOURCE / "masks", data / TARGET / "masks"
        done = translate(
            out, None, config.source.format, out / "translated", ground_truth=ground_truth, target_ground_truth=target_ground_truth
        )
        log.info(translation_text(*done))


def synthetic_settings(data: Path, seed: int, method: str | None = None) -> dict[str, Any]:
    """The demo's settings of a method (None: the usual one) on the networks of :func:`draw_pair`; all but an output."""
    text = (resources.files("distreid.methods") / (method or Config().method) / "demo.yaml").read_text(encoding="utf-8")
    roles = {"source": SOURCE, "target": TARGET}
    return yaml.safe_load(text) | {"seed": seed} | {role: {"data": str(data / f"{domain}.arrow")} for role, domain in roles.items()}


def draw_pair(data: Path, seed: int) -> None:
    """Draw and pack the two networks of a seed, with their true foreground masks, into ``data``, unless they are there."""
    for number, domain in enumerate((SOURCE, TARGET)):
        folder, packed = data / domain, data / f"{domain}.arrow"
        if packed.exists():
            continue
        if not folder.exists():
            with bar(f"drawing {domain}") as progress:
                draw_domain(
                    folder, domain=domain, identities=64, cameras=4, images=4, seed=2 * seed + number, masks=True, progress=progress
                )
        with bar(f"packing {domain}") as progress:
            pack(folder, packed, format="market1501", progress=progress)

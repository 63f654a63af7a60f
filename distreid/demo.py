"""The main job on drawn data, small enough for a laptop."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml

from distreid.config import config_from_dict
from distreid.data import pack
from distreid.data.drawn import draw_domain
from distreid.launch import train
from distreid.runtime import RunDirectory
from distreid.terminal import bar

SOURCE, TARGET = "day", "night"


def demo(out: Path, *, seed: int = 0, overrides: list[str] | None = None) -> None:
    """Draw two camera networks beside ``out``, adapt from one to the other, print the table and write the report.

    A demo that was interrupted, or has ended, continues from where it stands.
    """
    data = out.with_name(f"{out.name}-data-{seed}")
    settings = yaml.safe_load((resources.files("distreid") / "demo.yaml").read_text(encoding="utf-8"))
    settings |= {"seed": seed, "output": str(out)}
    settings |= {role: {"data": str(data / f"{domain}.arrow")} for role, domain in (("source", SOURCE), ("target", TARGET))}
    config = config_from_dict(settings, overrides, where="demo")
    for number, domain in enumerate((SOURCE, TARGET)):
        folder, packed = data / domain, data / f"{domain}.arrow"
        if packed.exists():
            continue
        if not folder.exists():
            with bar(f"drawing {domain}") as progress:
                draw_domain(folder, domain=domain, identities=64, cameras=4, images=4, seed=2 * seed + number, progress=progress)
        with bar(f"packing {domain}") as progress:
            pack(folder, packed, format="market1501", progress=progress)
    train(config, resume=RunDirectory(out).config.exists())

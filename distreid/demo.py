"""The main job on drawn data, small enough for a laptop."""

from __future__ import annotations

from pathlib import Path

from distreid.config import config_from_dict
from distreid.data import pack
from distreid.data.drawn import draw_domain
from distreid.launch import train
from distreid.terminal import bar

# Small, from scratch and on two cores, so unlike the paper's settings wherever those need ImageNet weights or a GPU.
SETTINGS = {
    "method": "daam",
    "input": {"height": 128, "width": 64, "pad": 5},
    "model": {"backbone": "resnet18", "weights": "none", "last_stride": 1, "batchnorm_group": 16},
    "pretrain": {
        "epochs": 14,
        "optimizer": {"name": "adamw", "lr_backbone": 2e-3, "lr_new": 2e-3, "schedule": "cosine", "warmup_epochs": 1.0},
    },
    "labels": {"k1": 20},
    "adapt": {
        "rounds": 4,
        "epochs": 3,
        "optimizer": {"name": "adamw", "lr_backbone": 5e-4, "lr_new": 2e-3, "schedule": "cosine", "warmup_epochs": 0.2},
    },
    "runtime": {"workers": 2, "precision": "bf16", "channels_last": True},
}
SOURCE, TARGET = "day", "night"


def demo(out: Path, *, seed: int = 0, resume: bool = False, overrides: list[str] | None = None) -> None:
    """Draw two camera networks beside ``out``, adapt from one to the other, print the table and write the report."""
    data = out.with_name(f"{out.name}-data-{seed}")
    config = config_from_dict(
        {**SETTINGS, "seed": seed, "output": str(out)}
        | {name: {"data": str(data / f"{domain}.arrow")} for name, domain in (("source", SOURCE), ("target", TARGET))},
        overrides,
        where="demo",
    )
    for number, domain in enumerate((SOURCE, TARGET)):
        packed, folder = data / f"{domain}.arrow", data / domain
        if packed.exists():
            continue
        if not folder.exists():
            with bar(f"drawing {domain}") as progress:
                draw_domain(folder, domain=domain, identities=64, cameras=4, images=4, seed=2 * seed + number, progress=progress)
        with bar(f"packing {domain}") as progress:
            pack(folder, packed, format="market1501", progress=progress)
    train(config, resume=resume)

"""Data that many tests share: two small drawn camera networks, packed once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distreid.config import Config, config_from_dict
from distreid.data import pack
from distreid.data.drawn import draw_domain


@pytest.fixture(scope="session")
def packed_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A day and a night network of 12 training identities each, as .arrow files."""
    folder = tmp_path_factory.mktemp("pair")
    for seed, domain in enumerate(("day", "night")):
        draw_domain(folder / domain, domain=domain, identities=12, cameras=3, images=3, seed=seed, workers=1)
        pack(folder / domain, folder / f"{domain}.arrow", format="market1501")
    return folder / "day.arrow", folder / "night.arrow"


@pytest.fixture
def small_config(packed_pair: tuple[Path, Path], tmp_path: Path) -> Callable[..., Config]:
    """Makes a configuration that trains in seconds: ``small_config("adapt.rounds=1", output=...)``."""

    def make(*overrides: str, output: Path | None = None) -> Config:
        return config_from_dict(small_settings(packed_pair, output or tmp_path / "run"), list(overrides))

    return make


def small_settings(pair: tuple[Path, Path], output: Path) -> dict[str, Any]:
    rates = {"name": "adamw", "lr_backbone": 1e-3, "lr_new": 1e-3, "schedule": "cosine"}
    return {
        "output": str(output),
        "source": {"data": str(pair[0])},
        "target": {"data": str(pair[1])},
        "input": {"height": 32, "width": 16, "pad": 2},
        "model": {"backbone": "resnet18", "weights": "none", "last_stride": 1, "batchnorm_group": 8},
        "pretrain": {"epochs": 2, "batch_size": 16, "optimizer": rates},
        "labels": {"k1": 8, "k2": 3, "p": 0.03, "min_samples": 3},
        "adapt": {"rounds": 2, "epochs": 2, "batch_size": 16, "optimizer": rates},
        # Not auto: what tests compare must not depend on the machine they run on.
        "runtime": {"workers": 0, "gpu": "no", "precision": "fp32", "channels_last": False},
    }

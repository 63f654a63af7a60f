"""Data that many tests share: two small drawn camera networks, packed once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distreid.config import Config, config_from_dict
from distreid.data import pack
from distreid.data.synthetic import draw_domain
from tests.report.browser import CHROMIUM, Browser
from tests.training_runs import small_settings


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    browser = Browser()
    yield browser
    browser.close()

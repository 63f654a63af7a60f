"""What is generated from the code is in step with it: `make docs` writes it anew."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from distreid.cli import COMMANDS
from distreid.common.settings import all_keys
from distreid.config import Config

ROOT = Path(__file__).parent.parent
GENERATED = runpy.run_path(str(ROOT / "docs" / "generate.py"))["FILES"]


@pytest.mark.parametrize("name", GENERATED)
def test_in_step(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](), "run: make docs"


def test_the_pages_are_whole() -> None:
    configuration, commands = GENERATED["docs/configuration.md"](), GENERATED["docs/commands.md"]()
    assert all(f"\n## distreid {name}\n" in commands for names in COMMANDS.values() for name in names)
    keys = {key.rsplit(".", 1)[-1] for key in all_keys(Config)} - {"groups"}
    assert len(keys) > 60 and all(f"\n| `{key}` |" in configuration for key in keys)
    assert "\n### edaan.network\n" in configuration and "(now foreground_view)" in configuration
    assert "| `channels_last` | `auto` | `auto`, `true`, `false` |" in configuration
    assert "None" not in configuration and "``" not in configuration.replace("```", "")

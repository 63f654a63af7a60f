"""The example runs, smaller."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "daam_minimal.py"
SMALL = "import daam_minimal; daam_minimal.main(identities=8, epochs=3, rounds=1, round_epochs=1)"


@pytest.mark.slow
def test_the_example_adapts_and_prints_both_accuracies() -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{EXAMPLE.parent}"}
    done = subprocess.run([sys.executable, "-c", SMALL], capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"round 1: \d+ clusters", done.stdout), done.stdout
    figures = re.search(r"([\d.]+) before adapting, ([\d.]+) after", done.stdout)
    assert figures and all(0 < float(value) < 100 for value in figures.groups()), done.stdout


def test_the_example_uses_the_library_alone() -> None:
    """No Ray, no configuration file, no run directory."""
    text = EXAMPLE.read_text(encoding="utf-8")
    code = text.partition('"""\n')[2]
    assert not re.search(r"\bray\b|RunDirectory|load_config|Context", code)

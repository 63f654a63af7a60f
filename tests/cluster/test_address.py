"""A RAY_ADDRESS that leads nowhere is one line within seconds, not minutes of silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.training_runs import small_settings

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One output for all: what a mistake leaves there does not stand in the way of the next try."""
    return tmp_path_factory.mktemp("runs") / "run"


def among_own_processes() -> list[str]:
    """Before a command, hides all other processes from it: `auto` looks for a Ray among them, and other tests have theirs."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("no process namespace of its own is to be had here: auto would find the Ray of another test")
    return apart


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no Ray head is there (Connection refused)"),
        ("auto", "no Ray answers"),
        ("ray://127.0.0.1:10001", "Ray Client"),
        ("http://127.0.0.1:8265", "the dashboard"),
    ],
)
def test_nobody_there(packed_pair: tuple[Path, Path], run: Path, tmp_path: Path, address: str, said: str) -> None:
    settings = small_settings(packed_pair, run)
    settings["runtime"]["workers"] = 1
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    apart = among_own_processes() if address == "auto" else []
    done = subprocess.run(
        [*apart, sys.executable, "-m", "distreid", "train", str(tmp_path / "c.yaml")],
        env=os.environ | {"RAY_ADDRESS": address, "RAY_TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("distreid: ")]
    assert f"RAY_ADDRESS={address}" in line and said in line and "unset RAY_ADDRESS" in line

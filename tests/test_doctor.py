"""`distreid doctor` on this machine, with faults that are really there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from distreid.actions.doctor import EXTRAS, _compute
from distreid.common.machine import GPU, Machine


def doctor(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distreid", "doctor", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ | environment)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The JSON of a machine with a broken extra, a missing one, a Ray that is gone, and limits in its environment."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "timm.py").write_text("raise ImportError('timm needs another torch')")
    (folder / "h5py.py").write_text("raise ModuleNotFoundError('h5py')")
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{port.getsockname()[1]}"
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", str(Path.cwd()))])
    done = doctor("--json", PYTHONPATH=path, RAY_ADDRESS=nobody, OMP_NUM_THREADS="1", ONEDNN_MAX_CPU_ISA="AVX2")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def finding(page: dict[str, Any], name: str) -> dict[str, Any]:
    return next(line for line in page["findings"] if line["name"] == name)


@pytest.mark.slow
def test_it_names_what_is_broken_and_what_to_do(troubled: dict[str, Any]) -> None:
    assert "timm needs another torch" in finding(troubled, "timm")["text"] and finding(troubled, "timm")["state"] == "mend"
    assert finding(troubled, "cuhk03")["text"] == "not installed" and "distreid[cuhk03]" in finding(troubled, "cuhk03")["advice"]
    assert "does not answer" in finding(troubled, "cluster")["text"]
    assert finding(troubled, "ray")["state"] == "ok"
    assert all(line["advice"] for line in troubled["findings"] if line["state"] == "mend")


@pytest.mark.slow
def test_it_says_what_a_run_would_use(troubled: dict[str, Any]) -> None:
    assert troubled["compute"]["cpu"]["precision"] == "fp32", "oneDNN may not use what has bf16"
    assert troubled["machine"]["limit"] == "AVX2"
    if troubled["machine"]["cores"] > 1:
        assert finding(troubled, "OMP_NUM_THREADS")["state"] == "mend"


@pytest.mark.slow
def test_the_page_has_every_section() -> None:
    page = doctor().stdout
    assert all(f" {section}" in page for section in ("Machine", "A run here", "Space", "Packages", "Extras", "Ray"))


def test_it_knows_every_extra() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(EXTRAS) == set(project["project"]["optional-dependencies"]) - {"dev", "docs"}


def test_where_there_is_a_gpu_it_names_its_check() -> None:
    with_gpu, without = Machine("x86_64", 2, gpus=(GPU("a GPU", "9.0", bf16=True),)), Machine("x86_64", 2)
    assert ["gpu-check" in str(list(_compute(machine, {}))) for machine in (with_gpu, without)] == [True, False]

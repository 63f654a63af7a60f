"""What 0.1.0 wrote goes on working: its runs continue to the same result, its checkpoints and YAML files load.

`tests/fixtures/v0.1.0` was made by that version: two synthetic domains of six people, and for each method a run interrupted
after its last but one epoch (daam: round 2, epoch 1; edaan: epoch 2 of 4), with what the same run gave when nothing
interrupted it. One process, float32, one thread, on a CPU with AVX512: equal to the last bit there, nearly so elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distreid.config import config_from_dict

FIXTURE = Path(__file__).parent / "fixtures" / "v0.1.0"


def run_command(*words: str) -> str:
    command = [sys.executable, "-m", "distreid", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["daam", "edaan"])
def method(request: pytest.FixtureRequest) -> str:
    return request.param


def continued(method: str, folder: Path) -> Path:
    """The interrupted run, continued in a copy."""
    run = folder / method
    shutil.copytree(FIXTURE / method, run)
    data = [f"source.data={FIXTURE / 'data' / 'day.arrow'}", f"target.data={FIXTURE / 'data' / 'night.arrow'}"]
    run_command("train", str(FIXTURE / f"{method}.yaml"), f"output={run}", *data, "--resume")
    return run


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_an_interrupted_run_continues_to_the_same_result(method: str, tmp_path: Path) -> None:
    run = continued(method, tmp_path)
    result, expected = json.loads((run / "result.json").read_text()), json.loads((FIXTURE / f"{method}-result.json").read_text())
    assert expected.keys() <= result.keys()
    for key in ("mAP", "rank1", "rank5"):
        assert result["final"][key] == pytest.approx(expected["final"][key], abs=0.05)
    assert [line.get("clusters") for line in result["rounds"]] == [line.get("clusters") for line in expected["rounds"]]
    losses = [line["loss"] for line in lines(run / "metrics.jsonl") if line["event"] == "epoch"]
    before = [line["loss"] for line in lines(FIXTURE / f"{method}-metrics.jsonl") if line["event"] == "epoch"]
    assert len(losses) == len(before)
    for ours, theirs in zip(losses, before, strict=True):
        assert sum(ours.values()) == pytest.approx(sum(theirs.values()), rel=1e-3)


@pytest.mark.slow
def test_a_checkpoint_gives_the_same_accuracy(tmp_path: Path) -> None:
    words = ("--data", str(FIXTURE / "data" / "night.arrow"), "--json")
    metrics = json.loads(run_command("evaluate", str(FIXTURE / "daam" / "checkpoints" / "round-00.pt"), *words))
    expected = json.loads((FIXTURE / "daam-result.json").read_text())["direct_transfer"]
    for key in ("mAP", "mAP_trapezoid", "rank1", "rank5", "rank10"):
        assert metrics[key] == pytest.approx(expected[key], abs=1e-3), key


@pytest.mark.slow
def test_status_and_report_open_an_old_run(method: str, tmp_path: Path) -> None:
    run = tmp_path / method
    shutil.copytree(FIXTURE / method, run)
    assert "stopped" in run_command("status", str(run))
    run_command("report", str(run))
    assert "<svg" in (run / "report.html").read_text()


@pytest.mark.parametrize("file", sorted((FIXTURE / "yaml").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_configuration_still_loads(file: Path) -> None:
    tree = yaml.safe_load(file.read_text())
    if "method" not in tree:
        pytest.skip("a sweep or a table")
    places = {"output": "runs/x", "source": {"data": "a.arrow"}, "target": {"data": "b.arrow"}}
    config_from_dict({**places, **tree}, where=file.name)

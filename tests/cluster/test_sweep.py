"""A sweep on a real local Ray Tune: killed in the middle and resumed, with a trial that fails."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.training_runs import small_settings

pytestmark = pytest.mark.ray


def start(folder: Path, *extra: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "distreid", "sweep", str(folder / "sweep.yaml"), *extra]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(folder: Path) -> list[Path]:
    return sorted((folder / "out" / "runs").glob("*/result.json"))


@pytest.mark.timeout(900)
def test_a_killed_sweep_keeps_what_is_finished_and_reports_what_fails(packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    settings = small_settings(packed_pair, tmp_path / "unused")
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(settings | {"adapt": settings["adapt"] | {"rounds": 1, "epochs": 1}}))
    # An eps below every distance finds no cluster: the trials with 50 samples fail, in the last places of the grid.
    search = {"labels.p": {"grid": [0.02, 0.03]}, "labels.min_samples": {"grid": [3, 4, 50]}}
    sweep = {"base": "base.yaml", "output": str(tmp_path / "out"), "search": search, "set": {"pretrain.epochs": 1}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep | {"concurrency": 2, "loggers": ["tensorboard"]}))

    first = start(tmp_path)
    deadline = time.monotonic() + 1500
    while not results(tmp_path) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    first.kill()  # SIGKILL: nothing is cleaned up
    first.communicate()
    kept = {file: file.stat().st_mtime_ns for file in results(tmp_path)}
    assert 1 <= len(kept) < 4, "killed in the middle"
    assert len(list((tmp_path / "out" / "pretrained").glob("*/result.json"))) == 1, "one source model for all trials"

    second = start(tmp_path, "--resume")
    out, err = second.communicate(timeout=1500)
    assert second.returncode == 0, out + err
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "no finished trial is run again"
    assert "chosen without target labels: labels." in out and "oracle (target test accuracy, for judging only)" in out
    assert "(pid=" not in out + err
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    assert [row["status"] for row in rows].count("finished") == 4 and len(rows) == 6
    for row in rows:
        if row["labels.min_samples"] == 50:
            assert row["status"] == "failed" and "no cluster" in row["reason"] and "\n" not in row["reason"]
            assert row["reason"] in out
        else:
            result = json.loads((tmp_path / "out" / "runs" / row["trial"] / "result.json").read_text())
            assert row["oracle_mAP"] == result["final"]["mAP"] and 0 < row["quality"] <= 1 and row["round"] == 1
    assert list((tmp_path / "out" / "tune").rglob("events.out.tfevents*"))
    page = (tmp_path / "out" / "sweep.html").read_text()
    assert page.count("<svg") == 4 and "oracle" in page

    third = start(tmp_path)
    _, err = third.communicate(timeout=1500)
    assert third.returncode == 2 and "already holds a sweep" in err

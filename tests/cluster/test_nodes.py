"""Two machines with nothing in common but a network and an S3 server: one of them is lost."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from distreid.config import config_from_dict
from tests.cluster.nodes import DATA, PORT, Machine, Site, site, start_ray
from tests.storage import KEYS
from tests.training_runs import run, small_settings

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def place() -> Iterator[Site]:
    with site() as made:
        yield made


def settings(pair: tuple[Path, Path], output: Path) -> dict[str, Any]:
    """A checkpoint of 1 MB; two workers, on a CPU each."""
    made = small_settings(pair, output)
    made["model"]["backbone"] = "timm/test_efficientnet_gn"
    made["runtime"] |= {"workers": 2, "cpus_per_worker": 1}
    return made


def train(machine: Machine, config: dict[str, Any], *more: str) -> subprocess.Popen[str]:
    """`distreid train` there, on the Ray whose head it is."""
    (machine.folder / "run.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "distreid", "train", "/var/tmp/run.yaml", *more]
    environment = KEYS | {"RAY_ADDRESS": f"{machine.address}:{PORT}"}
    return machine.popen(*command, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def written(*machines: Machine) -> str:
    """The lines of metrics.jsonl in the machines' own copies of the run."""
    found = [file for machine in machines for file in machine.folder.glob("home/.cache/distreid/runs/*/metrics.jsonl")]
    return "".join(file.read_text() for file in found)


@pytest.mark.timeout(1500)
def test_a_run_on_two_machines_outlives_one_of_them(place: Site, packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = (place.machine(name, packed_pair) for name in ("node-1", "node-2"))
    start_ray(first)
    start_ray(second, first)
    there = (Path(DATA) / packed_pair[0].name, Path(DATA) / packed_pair[1].name)
    config = settings(there, tmp_path) | {"output": place.uri("runs/a")}
    driver = train(first, config)
    deadline = time.monotonic() + 600
    while '"event": "epoch", "round": 1' not in written(first, second):
        assert driver.poll() is None and time.monotonic() < deadline, driver.communicate()
        time.sleep(0.02)
    place.lose(second)
    third = place.machine("node-3", packed_pair)
    start_ray(third, first)
    out, err = driver.communicate(timeout=600)
    assert driver.returncode == 0, out + err
    assert "report: s3://bucket/runs/a/report.html" in out and "Traceback" not in err
    whole_run_is_held(place.held("runs/a"), run(config_from_dict(settings(packed_pair, tmp_path / "run"), ["runtime.workers=0"])))
    assert written(third) and '"event": "epoch", "round": 2' not in written(second), "each has a copy of its own"


def whole_run_is_held(held: dict[str, bytes], undisturbed: dict[str, Any]) -> None:
    """Nothing is half-written or told twice, and all is as in a run in one process that nobody disturbed."""
    assert not [name for name in held if name.endswith((".part", ".tmp"))]
    for name in ("last", "round-00", "round-01", "round-02"):
        assert torch.load(io.BytesIO(held[f"checkpoints/{name}.pt"]), weights_only=True)["format"] == 1
    lines = [json.loads(line) for line in held["metrics.jsonl"].splitlines()]
    rounds = [(line["event"], line["round"]) for line in lines]
    in_one = [("labels", 1), ("epoch", 1), ("epoch", 1), ("round", 1), ("labels", 2), ("epoch", 2), ("epoch", 2), ("round", 2)]
    assert rounds == [("epoch", 0), ("epoch", 0), ("round", 0), *in_one]
    assert {line["workers"] for line in lines if line["event"] == "epoch"} == {2}
    ours = json.loads(held["result.json"])
    assert json.loads(held["progress.json"])["state"] == "finished"
    for mine, theirs in zip(ours["rounds"], undisturbed["rounds"], strict=True):
        assert [mine[key] for key in ("clusters", "outliers")] == [theirs[key] for key in ("clusters", "outliers")]
        labels_N = np.load(io.BytesIO(held[f"labels/round-{mine['round']:02d}.npz"]))["labels"]
        assert int((labels_N < 0).sum()) == mine["outliers"]
        assert mine["mAP"] == pytest.approx(theirs["mAP"], abs=0.02)
    assert ours["final"]["mAP"] == pytest.approx(undisturbed["final"]["mAP"], abs=0.02)

"""Two machines with nothing in common but a network and an S3 server: one of them is lost, the first, or for a while."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from distreid.config import config_from_dict
from tests.cluster.nodes import DATA, PORT, Machine, Site, alive, site, start_ray, stop_ray, workers
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
    first, second, driver = begun(place, packed_pair, tmp_path)
    in_round(1, first, second, driver)
    place.lose(second)
    third = place.machine("node-3", packed_pair)
    start_ray(third, first)
    ends_well(driver, place, undisturbed(packed_pair, tmp_path))
    assert written(third) and '"event": "epoch", "round": 2' not in written(second), "each has a copy of its own"


@pytest.mark.timeout(1500)
def test_a_run_whose_first_machine_is_lost_is_continued_on_the_others(
    place: Site, packed_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Ray's head, the driver, the labelling actor and a worker go at once."""
    first, second, driver = begun(place, packed_pair, tmp_path)
    in_round(1, first, second, driver)
    place.lose(first)
    stop_ray(second)
    third = place.machine("node-3", packed_pair)
    start_ray(second)
    start_ray(third, second)
    ends_well(train(second, asked(place, packed_pair, tmp_path), "--resume"), place, undisturbed(packed_pair, tmp_path))


@pytest.mark.timeout(1500)
def test_a_machine_that_was_cut_off_disturbs_nothing_when_it_is_back(
    place: Site, packed_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """A link is down for less than Ray waits: nobody notices. For longer: the machine is lost for the run, but its processes live;
    back, it takes part anew."""
    first, second, driver = begun(place, packed_pair, tmp_path)
    in_round(0, first, second, driver)
    place.link(second, "down")
    time.sleep(3)
    place.link(second, "up")
    assert alive(first) == 2
    in_round(1, first, second, driver)
    place.link(second, "down")
    wait_until(lambda: alive(first) == 1, driver)
    place.link(second, "up")
    wait_until(lambda: not workers(second), driver)
    stop_ray(second)
    start_ray(second, first)
    ends_well(driver, place, undisturbed(packed_pair, tmp_path))


def asked(place: Site, pair: tuple[Path, Path], folder: Path) -> dict[str, Any]:
    """The configuration of a run on the machines, at a URI of the server."""
    there = (Path(DATA) / pair[0].name, Path(DATA) / pair[1].name)
    return settings(there, folder) | {"output": place.uri("runs/a")}


def begun(place: Site, pair: tuple[Path, Path], folder: Path) -> tuple[Machine, Machine, subprocess.Popen[str]]:
    """Two machines with a worker on each, and the driver on the first."""
    first, second = (place.machine(name, pair) for name in ("node-1", "node-2"))
    start_ray(first)
    start_ray(second, first)
    return first, second, train(first, asked(place, pair, folder))


def in_round(number: int, first: Machine, second: Machine, driver: subprocess.Popen[str]) -> None:
    """Wait until a round's (0: pre-training's) first epoch is over."""
    wait_until(lambda: f'"event": "epoch", "round": {number}' in written(first, second), driver)


def wait_until(happens: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not happens():
        assert driver.poll() is None and time.monotonic() < deadline, driver.communicate()
        time.sleep(0.02)


def undisturbed(pair: tuple[Path, Path], folder: Path) -> dict[str, Any]:
    """What a run in one process ends with."""
    return run(config_from_dict(settings(pair, folder / "run"), ["runtime.workers=0"]))


def ends_well(driver: subprocess.Popen[str], place: Site, expected: dict[str, Any]) -> None:
    out, err = driver.communicate(timeout=600)
    assert driver.returncode == 0, out + err
    assert "report: s3://bucket/runs/a/report.html" in out and "Traceback" not in err, err
    whole_run_is_held(place.held("runs/a"), expected)


def whole_run_is_held(held: dict[str, bytes], expected: dict[str, Any]) -> None:
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
    for mine, theirs in zip(ours["rounds"], expected["rounds"], strict=True):
        assert [mine[key] for key in ("clusters", "outliers")] == [theirs[key] for key in ("clusters", "outliers")]
        labels_N = np.load(io.BytesIO(held[f"labels/round-{mine['round']:02d}.npz"]))["labels"]
        assert int((labels_N < 0).sum()) == mine["outliers"]
        assert mine["mAP"] == pytest.approx(theirs["mAP"], abs=0.02)
    assert ours["final"]["mAP"] == pytest.approx(expected["final"]["mAP"], abs=0.02)

"""The same loop on a real local Ray: two DDP workers, the labelling actor, and what dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from distreid.runtime import RunDirectory
from tests.conftest import small_settings

pytestmark = pytest.mark.ray


def start(folder: Path, pair: tuple[Path, Path], *overrides: str, name: str = "run", resume: bool = False) -> subprocess.Popen[str]:
    """`distreid train` in a process of its own, with two Ray Train workers unless overridden."""
    settings = small_settings(pair, folder / name)
    settings["runtime"]["workers"] = 2
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "distreid", "train", str(file), *overrides, *(["--resume"] if resume else [])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
    return out, err


def lines(folder: Path, name: str = "run") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


def accuracies(folder: Path, name: str = "run") -> Any:
    result = json.loads((folder / name / "result.json").read_text())
    for line in result["rounds"]:
        del line["seconds"]
    return result


def wait_for(folder: Path, event: str, number: int, timeout: float = 200) -> None:
    """Until metrics.jsonl has a line of this event and round, and the checkpoint that follows it is written."""
    deadline = time.monotonic() + timeout
    run = RunDirectory(folder / "run")
    size = None
    while time.monotonic() < deadline:
        if size is None and run.metrics.exists():
            text = run.metrics.read_text()
            if f'"event": "{event}", "round": {number},' in text:
                size = len(text.encode())
        elif size is not None:
            saved = run.load()
            if saved is not None and saved["metrics_size"] >= size:
                return
        time.sleep(0.1)
    raise AssertionError(f"no {event} line of round {number} and checkpoint within {timeout} s")


@pytest.fixture(scope="module")
def undisturbed(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    out, err = finish(start(folder, packed_pair))
    assert "adapted (final)" in out and "report.html" in out
    assert "(pid=" not in out + err, "Ray's chatter is kept out of the way"
    return folder


def test_two_workers_give_the_losses_of_one_process(undisturbed: Path, packed_pair: tuple[Path, Path]) -> None:
    """Pre-training from the same seed, and a round of Eq. 7 from the same source model."""
    finish(start(undisturbed, packed_pair, "runtime.workers=0", "adapt.rounds=0", name="one"))
    for ours, theirs in zip(lines(undisturbed)[:2], lines(undisturbed, "one")[:2], strict=True):
        assert ours["loss"]["source"] == pytest.approx(theirs["loss"]["source"], rel=2e-3)
    same = [f"pretrain.checkpoint={undisturbed / 'run'}", "adapt.rounds=1", "adapt.epochs=1"]
    finish(start(undisturbed, packed_pair, *same, "runtime.workers=0", name="one-round"))
    finish(start(undisturbed, packed_pair, *same, name="two-round"))
    one, two = lines(undisturbed, "one-round"), lines(undisturbed, "two-round")
    assert [line["event"] for line in one] == [line["event"] for line in two] == ["round", "labels", "epoch", "round"]
    assert [one[1][key] for key in ("clusters", "outliers")] == [two[1][key] for key in ("clusters", "outliers")]
    assert two[1]["eps"] == pytest.approx(one[1]["eps"], rel=1e-4)
    assert two[2]["loss"] == pytest.approx(one[2]["loss"], rel=5e-3)


def test_killed_driver_resumes_to_the_same_accuracies(undisturbed: Path, packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    driver = start(tmp_path, packed_pair)
    wait_for(tmp_path, "labels", 1)
    driver.kill()  # SIGKILL: nothing is cleaned up
    driver.wait()
    assert not (tmp_path / "run" / "result.json").exists()
    finish(start(tmp_path, packed_pair, resume=True))
    assert accuracies(tmp_path) == accuracies(undisturbed)


def test_ctrl_c_ends_within_seconds_and_can_be_resumed(packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    driver = start(tmp_path, packed_pair, "pretrain.epochs=500")
    wait_for(tmp_path, "epoch", 0)
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate(timeout=30)
    assert driver.returncode == 1
    assert err.strip().splitlines()[-1] == "distreid: interrupted; a run that was under way continues with --resume"
    assert "Traceback" not in err
    assert RunDirectory(tmp_path / "run").load() is not None


def test_a_killed_worker_is_replaced_and_the_result_is_the_same(
    undisturbed: Path, packed_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    driver = start(tmp_path, packed_pair)
    wait_for(tmp_path, "epoch", 1)
    victims = workers_of(driver.pid)
    assert victims, "no Ray Train worker found"
    os.kill(victims[0], signal.SIGKILL)
    finish(driver)
    assert accuracies(tmp_path) == accuracies(undisturbed)


def workers_of(driver: int) -> list[int]:
    """Processes of Ray Train workers that descend from the driver."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in table.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}

    def descends(pid: int) -> bool:
        while pid > 1 and pid != driver:
            pid = parents.get(pid, 0)
        return pid == driver

    return [int(row[0]) for row in rows if len(row) == 3 and "RayTrainWorker" in row[2] and descends(int(row[0]))]


def test_deepspeed_trains_a_round_as_ddp_does(undisturbed: Path, packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    """From the same source model: ZeRO 2, the batch in two parts, the target head remade."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (extra: deepspeed)")
    same = [f"pretrain.checkpoint={undisturbed / 'run'}", "adapt.rounds=1", "adapt.epochs=1", "model.batchnorm_group=4"]
    finish(start(tmp_path, packed_pair, *same, name="ddp"))
    zero = ["runtime.strategy=deepspeed", "runtime.zero_stage=2", "runtime.accumulate=2"]
    finish(start(tmp_path, packed_pair, *same, *zero, name="zero"))
    ddp, ours = lines(tmp_path, "ddp"), lines(tmp_path, "zero")
    assert [line["event"] for line in ddp] == [line["event"] for line in ours] == ["round", "labels", "epoch", "round"]
    assert ours[1]["clusters"] == ddp[1]["clusters"]
    assert ours[2]["loss"] == pytest.approx(ddp[2]["loss"], rel=2e-3)
    assert ours[3]["mAP"] == pytest.approx(ddp[3]["mAP"], abs=0.02)


def test_a_mistake_found_by_the_actor_is_one_line_and_exit_code_2(packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    nothing = ["labels.eps=fixed", "labels.eps_value=0.00001", "labels.min_samples=50"]
    driver = start(tmp_path, packed_pair, "pretrain.epochs=1", *nothing)
    _, err = finish(driver, code=2)
    assert err.strip().splitlines()[-1].startswith("distreid: round 1: no cluster among")
    assert "Traceback" not in err

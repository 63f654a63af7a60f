"""The same loop on a real local Ray: two DDP workers, the labelling actor, and what dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from distreid.training import RunDirectory
from tests.cluster.runs import accuracies, finish, lines, processes_of, start, wait_for

pytestmark = pytest.mark.ray
TWO = "zwei-Läufer"  # for the labels of metrics Ray takes ASCII only


@pytest.fixture(scope="module")
def one_round(undisturbed: Path, packed_pair: tuple[Path, Path], shared_ray: str) -> tuple[list[str], Path]:
    """The settings of a round from the undisturbed run's source model, and where two DDP workers ran it, as TWO in there."""
    same = [f"pretrain.checkpoint={undisturbed / 'run'}", "adapt.rounds=1", "adapt.epochs=1", "model.batchnorm_group=4"]
    finish(start(undisturbed, packed_pair, *same, name=TWO, address=shared_ray))
    return same, undisturbed


def test_two_workers_give_the_losses_of_one_process(one_round: tuple[list[str], Path], packed_pair: tuple[Path, Path]) -> None:
    """Pre-training from the same seed, and a round of Eq. 7 from the same source model."""
    same, undisturbed = one_round
    finish(start(undisturbed, packed_pair, "runtime.workers=0", "adapt.rounds=0", name="one"))
    for ours, theirs in zip(lines(undisturbed)[:2], lines(undisturbed, "one")[:2], strict=True):
        assert ours["loss"]["source"] == pytest.approx(theirs["loss"]["source"], rel=2e-3)
    finish(start(undisturbed, packed_pair, *same, "runtime.workers=0", name="one-round"))
    one, two = lines(undisturbed, "one-round"), lines(undisturbed, TWO)
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
    driver = start(tmp_path, packed_pair, "pretrain.epochs=500", "runtime.precision=auto")
    wait_for(tmp_path, "epoch", 0)
    workers = processes_of(driver.pid, "RayTrainWorker")
    assert len(workers) == 2
    assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in workers} == {os.nice(0)}, "Ray's own default is 15"
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate(timeout=30)
    assert driver.returncode == 1
    assert err.strip().splitlines()[-1] == "distreid: interrupted; a run that was under way continues with --resume"
    assert "Traceback" not in err
    saved = RunDirectory(tmp_path / "run").load()
    decided = RunDirectory(tmp_path / "run").compute()
    assert saved is not None and saved["config"]["runtime"]["precision"] == decided["precision"] in ("fp32", "bf16")
    assert [line.startswith(f"precision {decided['precision']} (") for line in err.splitlines()].count(True) == 1


@pytest.mark.chaos  # test_faults kills a worker too, during evaluation
def test_a_killed_worker_is_replaced_and_the_result_is_the_same(
    undisturbed: Path, packed_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    driver = start(tmp_path, packed_pair)
    wait_for(tmp_path, "epoch", 1)
    victims = processes_of(driver.pid, "RayTrainWorker")
    assert victims, "no Ray Train worker found"
    os.kill(victims[0], signal.SIGKILL)
    finish(driver)
    assert accuracies(tmp_path) == accuracies(undisturbed)


def test_deepspeed_trains_a_round_as_ddp_does(
    one_round: tuple[list[str], Path], packed_pair: tuple[Path, Path], tmp_path: Path, shared_ray: str
) -> None:
    """From the same source model: ZeRO 2, the batch in two parts, the target head remade."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (extra: deepspeed)")
    same, undisturbed = one_round
    zero = ["runtime.strategy=deepspeed", "runtime.zero_stage=2", "runtime.accumulate=2"]
    finish(start(tmp_path, packed_pair, *same, *zero, name="zero", address=shared_ray))
    ddp, ours = lines(undisturbed, TWO), lines(tmp_path, "zero")
    assert [line["event"] for line in ddp] == [line["event"] for line in ours] == ["round", "labels", "epoch", "round"]
    assert ours[1]["clusters"] == ddp[1]["clusters"]
    assert ours[2]["loss"] == pytest.approx(ddp[2]["loss"], rel=5e-3)
    assert ours[3]["mAP"] == pytest.approx(ddp[3]["mAP"], abs=0.02)


def test_a_mistake_found_by_the_actor_is_one_line_and_exit_code_2(
    packed_pair: tuple[Path, Path], tmp_path: Path, shared_ray: str
) -> None:
    nothing = ["labels.eps=fixed", "labels.eps_value=0.00001", "labels.min_samples=50"]
    driver = start(tmp_path, packed_pair, "pretrain.epochs=1", *nothing, address=shared_ray)
    _, err = finish(driver, code=2)
    assert err.strip().splitlines()[-1].startswith("distreid: round 1: no cluster among")
    assert "Traceback" not in err

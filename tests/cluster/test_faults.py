"""What else may die: the labelling actor at its work, a worker during evaluation, a node. `make chaos` kills at random."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from distreid.training import RunDirectory
from tests.cluster.runs import accuracies, finish, lines, processes_of, start, wait_for

pytestmark = pytest.mark.ray


def wait_for_line(folder: Path, text: str, driver: subprocess.Popen[str]) -> None:
    """Until metrics.jsonl holds this text; the work that follows has only just begun."""
    metrics = folder / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (metrics.exists() and text in metrics.read_text()):
        assert driver.poll() is None and time.monotonic() < deadline, f"no {text}"
        time.sleep(0.01)


def test_labelling_actor_killed_at_its_work_and_worker_killed_during_evaluation(
    undisturbed: Path, packed_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    driver = start(tmp_path, packed_pair)
    wait_for_line(tmp_path, '"event": "round", "round": 0', driver)
    (actor,) = processes_of(driver.pid, "LabellingActor")
    os.kill(actor, signal.SIGSTOP)  # stands still, so that it is surely at work on the labels when it is killed
    time.sleep(5)
    assert '"event": "labels"' not in (tmp_path / "run" / "metrics.jsonl").read_text()
    os.kill(actor, signal.SIGKILL)
    wait_for_line(tmp_path, '"event": "epoch", "round": 2, "epoch": 2', driver)
    (actor,) = processes_of(driver.pid, "LabellingActor")
    os.kill(actor, signal.SIGSTOP)  # the accuracies of the last round cannot come before the worker is dead
    time.sleep(2)
    os.kill(processes_of(driver.pid, "RayTrainWorker")[0], signal.SIGKILL)
    os.kill(actor, signal.SIGCONT)
    finish(driver)
    assert accuracies(tmp_path) == accuracies(undisturbed)


@pytest.mark.chaos  # two minutes, for `make test` is long enough
def test_a_worker_that_hangs_is_named_and_the_result_is_the_same(
    undisturbed: Path, packed_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    driver = start(tmp_path, packed_pair, "runtime.hang_timeout=25")
    wait_for_line(tmp_path, '"event": "epoch", "round": 1', driver)
    hung = max(processes_of(driver.pid, "RayTrainWorker"))
    os.kill(hung, signal.SIGSTOP)  # the other one waits for it in a collective
    out, err = finish(driver)
    assert f"hangs (process {hung} on node" in out + err
    assert accuracies(tmp_path) == accuracies(undisturbed)


@pytest.mark.chaos  # tests/methods gives notice to a run without Ray
def test_a_terminated_run_ends_with_a_checkpoint_and_continues_to_the_same_result(
    undisturbed: Path, packed_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    driver = start(tmp_path, packed_pair)
    wait_for_line(tmp_path, '"event": "labels", "round": 1', driver)
    driver.terminate()
    _, err = finish(driver, code=143)
    assert err.splitlines()[-1].startswith("distreid: ") and "stopped as asked, after epoch" in err
    assert lines(tmp_path)[-1]["event"] == "epoch", "it ends soon, and not before the epoch does"
    finish(start(tmp_path, packed_pair, resume=True))
    assert accuracies(tmp_path) == accuracies(undisturbed)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head with one CPU; nodes are added by the test."""
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": quick, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def test_a_lost_node_is_replaced_and_the_result_is_the_same(
    undisturbed: Path, packed_pair: tuple[Path, Path], tmp_path: Path, cluster: Cluster
) -> None:
    second = cluster.add_node(num_cpus=1)
    driver = start(tmp_path, packed_pair, "runtime.cpus_per_worker=1", address=cluster.address)
    wait_for(tmp_path, "epoch", 1)
    cluster.remove_node(second, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    finish(driver)
    ours, theirs = accuracies(tmp_path), accuracies(undisturbed)
    assert ours["final"]["mAP"] == pytest.approx(theirs["final"]["mAP"], abs=0.02)  # one thread here, as many as cores there
    assert {line["workers"] for line in lines(tmp_path) if line["event"] == "epoch"} == {2}


@pytest.mark.chaos  # four to five minutes: Ray waits before it goes on with fewer, and looks for new nodes once a minute
@pytest.mark.timeout(900)
def test_an_elastic_run_goes_on_without_the_lost_node_and_takes_a_new_one(
    packed_pair: tuple[Path, Path], tmp_path: Path, cluster: Cluster
) -> None:
    def workers() -> list[int]:
        return [line["workers"] for line in lines(tmp_path) if line["event"] == "epoch"]

    second = cluster.add_node(num_cpus=1)
    driver = start(
        tmp_path, packed_pair, "runtime.cpus_per_worker=1", "runtime.min_workers=1", "adapt.epochs=1000", address=cluster.address
    )
    wait_for(tmp_path, "epoch", 1)
    cluster.remove_node(second, allow_graceful=False)
    deadline = time.monotonic() + 300
    while workers()[-1] != 1:
        assert driver.poll() is None and time.monotonic() < deadline, "it does not go on with one worker"
        time.sleep(0.5)
    cluster.add_node(num_cpus=1)
    while workers()[-1] != 2:
        assert driver.poll() is None and time.monotonic() < deadline + 200, "it does not take the new node"
        time.sleep(0.5)
    driver.terminate()
    finish(driver, code=143)
    seen = workers()
    assert [count for count, before in zip(seen, [0, *seen], strict=False) if count != before] == [2, 1, 2]
    epochs = [(line["round"], line["epoch"]) for line in lines(tmp_path) if line["event"] == "epoch"]
    assert epochs == [(0, 1), (0, 2), *((1, epoch + 1) for epoch in range(len(epochs) - 2))], "no epoch is lost or done twice"


@pytest.mark.chaos
def test_a_node_that_says_it_will_go_leaves_a_checkpoint_within_the_epoch(
    packed_pair: tuple[Path, Path], tmp_path: Path, cluster: Cluster
) -> None:
    second = cluster.add_node(num_cpus=1)
    long = ["model.batchnorm_group=2", "pretrain.batch_size=4", "pretrain.epochs=500"]  # 27 steps an epoch
    driver = start(tmp_path, packed_pair, "runtime.cpus_per_worker=1", *long, address=cluster.address)
    wait_for(tmp_path, "epoch", 0)
    drain = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", cluster.address, "--node-id", second.node_id]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "60"]
    subprocess.run([*drain, *reason], check=True, capture_output=True)
    directory, deadline = RunDirectory(tmp_path / "run"), time.monotonic() + 60
    while (saved := directory.load()) is None or not saved["state"]["step"]:
        assert driver.poll() is None and time.monotonic() < deadline, "no checkpoint within an epoch"
    assert saved["state"]["step"] == 20
    cluster.remove_node(second, allow_graceful=False)
    before = saved["state"]["epoch"]
    cluster.add_node(num_cpus=1)
    while not any(line["epoch"] > before + 1 for line in lines(tmp_path) if line["event"] == "epoch"):
        assert driver.poll() is None and time.monotonic() < deadline + 120, "it does not go on"
        time.sleep(0.5)
    driver.terminate()
    finish(driver, code=143)


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(int(os.environ.get("DISTREID_CHAOS", "20"))))
def test_chaos(undisturbed: Path, packed_pair: tuple[Path, Path], tmp_path: Path, number: int) -> None:
    """A random part dies at a random moment: a worker, the labelling actor, the monitor or the driver."""
    rng = random.Random(number)
    driver = start(tmp_path, packed_pair, "runtime.max_failures=10")
    wait_for_line(tmp_path, '"event": "epoch"', driver)
    time.sleep(rng.uniform(0, 10))
    kind = rng.choice(["RayTrainWorker", "LabellingActor", "MonitorActor", "driver"])
    victims = [driver.pid] if kind == "driver" else processes_of(driver.pid, kind)
    if victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(victims), signal.SIGKILL)
    driver.communicate(timeout=400)
    if driver.returncode:
        finish(start(tmp_path, packed_pair, "runtime.max_failures=10", resume=True))
    assert accuracies(tmp_path) == accuracies(undisturbed)

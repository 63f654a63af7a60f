"""`ray job submit` to a real head that asks for a token."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.cluster.runs import lines, processes_of, wait_for
from tests.training_runs import small_settings

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
RAY_COMMAND = [RAY] if Path(RAY).exists() else [sys.executable, "-m", "ray.scripts.scripts"]


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@dataclass(frozen=True)
class Head:
    """A head of its own on loopback. environment: knows the token. pid: all of the node's processes descend from it."""

    address: str
    environment: dict[str, str]
    pid: int

    def job(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`ray job VERB --address ... REST`."""
        verb, *rest = arguments
        command = [*RAY_COMMAND, "job", verb, "--address", self.address, *rest]
        environment = environment or self.environment
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=480)

    def submit(self, *entry: str, wait: bool = True, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        options = ["--runtime-env", "cluster_configs/runtime_env.yaml", *([] if wait else ["--no-wait"])]
        return self.job("submit", *options, "--", *entry, environment=environment)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="head-"))  # short: sockets lie in it
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "HOME": str(folder)}
    ports = free_ports(6)
    names = (
        "port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port",
        "ray-client-server-port",
    )  # fmt: skip
    options = [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    loopback = ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--include-dashboard=true", "--num-cpus=2"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*RAY_COMMAND, "start", "--head", "--block", f"--temp-dir={folder}", *loopback, *options],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    made = Head(f"http://127.0.0.1:{ports[1]}", environment, process.pid)
    try:
        deadline = time.monotonic() + 120
        while made.job("list").returncode:
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.5)
        yield made
    finally:
        # Not terminated, which takes half a minute; workers end when their raylet is gone.
        subprocess.run(["pkill", "-KILL", "-f", str(folder)])
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_submitted_run_whose_supervisor_is_killed_is_resumed_to_the_run_of_distreid_train(
    head: Head, packed_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = small_settings(packed_pair, tmp_path / "run")
    settings["runtime"] |= {"workers": 1, "cpus_per_worker": 1}
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(settings))
    short = ["adapt.rounds=1", "adapt.epochs=1", "pretrain.epochs=2"]
    begun = head.submit(sys.executable, "jobs/train.py", str(file), *short, wait=False)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    wait_for(tmp_path, "epoch", 0)
    (supervisor,) = processes_of(head.pid, "JobSupervisor")
    os.kill(supervisor, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while subprocess.run(["pgrep", "-f", f"jobs/train.py {file}"], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "the driver outlives its supervisor"
        time.sleep(0.5)
    assert not (tmp_path / "run" / "result.json").exists()
    done = head.submit(sys.executable, "jobs/train.py", str(file), *short, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "adapted (final)" in done.stdout
    assert [(line["round"], line["epoch"]) for line in lines(tmp_path) if line["event"] == "epoch"] == [(0, 1), (0, 2), (1, 1)]
    here = [sys.executable, "-m", "distreid", "train", str(file), *short, "runtime.workers=0", f"output={tmp_path / 'here'}"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as many as the worker's CPUs
    subprocess.run(here, check=True, capture_output=True, timeout=480, cwd=ROOT, env=one_thread)
    submitted, local = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("run", "here"))
    assert submitted["final"]["mAP"] == pytest.approx(local["final"]["mAP"], abs=1e-3)
    again = head.submit(sys.executable, "jobs/evaluate.py", str(tmp_path / "run"), "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    figures = next(json.loads(line) for line in again.stdout.splitlines() if line.startswith('{"'))
    assert figures["mAP"] == pytest.approx(submitted["final"]["mAP"], abs=1e-3)


@pytest.mark.chaos
def test_a_stopped_job_ends_with_a_checkpoint(head: Head, packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    settings = small_settings(packed_pair, tmp_path / "run")
    settings["runtime"] |= {"workers": 1, "cpus_per_worker": 1}
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(settings))
    begun = head.submit(sys.executable, "jobs/train.py", str(file), "pretrain.epochs=1000", wait=False)
    name = next(word.strip("'") for word in begun.stdout.split() if word.startswith("'raysubmit_"))
    wait_for(tmp_path, "epoch", 0)
    stopped = head.job("stop", name)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "stopped as asked, after epoch" in head.job("logs", name).stdout
    assert lines(tmp_path)[-1]["event"] == "epoch"


def test_a_relative_output_would_vanish_with_the_job(head: Head) -> None:
    done = head.submit(sys.executable, "jobs/train.py", "jobs/daam/market-cameras.yaml")
    assert done.returncode == 1
    assert "distreid: output=runs/market-cameras: a submitted job" in done.stdout + done.stderr


@pytest.mark.parametrize("token", [None, "of-somebody-else"])
def test_a_submit_without_the_token_is_refused(head: Head, tmp_path: Path, token: str | None) -> None:
    stranger = {key: value for key, value in head.environment.items() if not key.startswith("RAY_")} | {"HOME": str(tmp_path)}
    stranger |= {"RAY_AUTH_MODE": "disabled"} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    done = head.submit("touch", str(tmp_path / "owned"), environment=stranger)
    assert done.returncode != 0
    said = (done.stdout + done.stderr).lower()
    assert "unauthorized" in said or "401" in said or "403" in said or "authentication" in said
    assert not (tmp_path / "owned").exists()

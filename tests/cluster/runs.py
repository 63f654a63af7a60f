"""`distreid train` in a process of its own on a real Ray, and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from distreid.training import RunDirectory
from tests.training_runs import small_settings


def start(
    folder: Path, pair: tuple[Path, Path], *overrides: str, name: str = "run", resume: bool = False, address: str | None = None
) -> subprocess.Popen[str]:
    """`distreid train` with two Ray Train workers unless overridden; on a local Ray, or the one at ``address``."""
    settings = small_settings(pair, folder / name)
    settings["runtime"]["workers"] = 2
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "distreid", "train", str(file), *overrides, *(["--resume"] if resume else [])]
    environment = os.environ | ({"RAY_ADDRESS": address} if address else {})
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


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


def processes_of(driver: int, name: str) -> list[int]:
    """Processes of a Ray actor class that descend from the driver."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in table.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}

    def descends(pid: int) -> bool:
        while pid > 1 and pid != driver:
            pid = parents.get(pid, 0)
        return pid == driver

    return [int(row[0]) for row in rows if len(row) == 3 and name in row[2] and descends(int(row[0]))]

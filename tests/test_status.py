"""What another shell learns of a run: while it works, when it ended, and when it was killed."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distreid.actions.status import runs, status
from distreid.cli import main
from distreid.common.claim import SILENCE, Claim, alive
from distreid.common.errors import UserError
from distreid.common.progress import Progress, read_progress
from distreid.common.terminal import TerminalReporter
from tests.commands import fails
from tests.report.runs import bare_run, whole_run

HOLDS = """
import sys, time
from pathlib import Path
from distreid.common.claim import Claim
from distreid.common.progress import Progress
from distreid.common.terminal import TerminalReporter
claim = Claim(Path(sys.argv[1]))
claim.take()
with Progress(claim, TerminalReporter()) as reporter:
    reporter.stage("training, round 2 of 4", 200, 100)
    reporter.advance(150, {"loss": 1.25, "epoch": 3})
    time.sleep(120)
"""


def taken(run: Path) -> Claim:
    claim = Claim(run)
    claim.take()
    return claim


def wait_for_stage(run: Path) -> None:
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        state = read_progress(run)
        if state is not None and state["stage"] is not None and state["stage"]["done"] == 150:
            return
        time.sleep(0.05)
    raise AssertionError("no progress.json")


def test_a_running_then_a_killed_process(tmp_path: Path) -> None:
    run = bare_run(tmp_path / "a")
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(run)], stderr=subprocess.DEVNULL)
    try:
        wait_for_stage(run)
        text = status(run)
        assert "running for" in text and f"process {process.pid} on {platform.node()}" in text
        assert "daam, day → night, 0/4 rounds finished" in text
        assert "training, round 2 of 4: 75%" in text and "left, loss 1.25, epoch 3" in text
        assert runs(tmp_path).splitlines()[1].split()[:2] == ["a", "running"]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert "stopped" in status(run) and "killed" in status(run) and "--resume" in status(run)


def test_how_it_ended_is_remembered(tmp_path: Path) -> None:
    for error, state, words in (
        (KeyboardInterrupt(), "interrupted", "interrupted"),
        (UserError("a.arrow: gone"), "failed", "a.arrow: gone"),
        (ValueError("x"), "failed", "ValueError: x"),
    ):
        run = bare_run(tmp_path / words[:5])
        claim = taken(run)
        with pytest.raises(type(error)), Progress(claim, TerminalReporter()) as reporter:
            reporter.stage("training", 10)
            raise error
        claim.release()
        saved = read_progress(run)
        assert saved is not None and saved["state"] == state and not alive(saved)
        assert words in status(run)
    with Progress(taken(tmp_path / words[:5]), TerminalReporter()):
        pass
    saved = read_progress(tmp_path / words[:5])
    assert saved is not None and saved["state"] == "finished"


def test_another_process_with_the_same_number_is_not_taken_for_the_run(tmp_path: Path) -> None:
    with Progress(taken(tmp_path), TerminalReporter()):
        pass
    state = {**json.loads((tmp_path / "progress.json").read_text()), "state": "running"}
    assert alive(state)
    assert not alive({**state, "born": "1"})
    assert not alive({**state, "pid": 2**22 + 1})
    elsewhere = {**state, "host": "another", "pid": os.getpid()}
    assert alive(elsewhere) and not alive({**elsewhere, "updated": time.time() - SILENCE - 1})


def test_runs_lists_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole_run(tmp_path / "deep" / "done")
    bare_run(tmp_path / "begun")
    (tmp_path / "other").mkdir()
    bare_run(tmp_path / "odd")
    (tmp_path / "odd" / "metrics.jsonl").write_text("{}\n{}\n")
    main(["runs", str(tmp_path)])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["run", "state", "method"]
    assert [line.split()[:2] for line in lines] == [["begun", "stopped"], ["deep/done", "finished"], ["odd", "damaged"]]
    assert "no such folder" in fails(capsys, "runs", str(tmp_path / "none"))
    assert "no run in it" in fails(capsys, "runs", str(tmp_path / "other"))
    assert "not a run" in fails(capsys, "status", str(tmp_path / "other"))
    main(["status", str(tmp_path / "deep" / "done")])
    out = capsys.readouterr().out
    assert "finished" in out and "adapted (final)" in out


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "running"}'])
def test_a_broken_progress_file_is_no_obstacle(tmp_path: Path, content: str) -> None:
    run = bare_run(tmp_path / "a")
    (run / "progress.json").write_text(content)
    assert "stopped" in status(run)


def test_status_needs_neither_torch_nor_ray() -> None:
    code = "import sys, distreid.actions.status; assert not {'torch', 'ray', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

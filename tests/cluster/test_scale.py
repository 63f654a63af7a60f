"""`make scale`, small: its files, on a real Ray, and its page. What it measures, against processes that take what is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distreid.training.rundir import RunDirectory

ROOT = Path(__file__).parents[2]
TAKES = (
    "import time; kept = bytearray(b'1') * {now}; gone = bytearray(b'1') * {soon}; del gone; print(flush=True); time.sleep({rest})"
)


@pytest.fixture(scope="module")
def scale() -> Path:
    """The folder of the job, whose files import each other."""
    folder = ROOT / "jobs" / "scale"
    sys.path.insert(0, str(folder))
    return folder


@pytest.mark.slow
def test_a_peak_between_two_looks_is_seen_and_belongs_to_its_stage(scale: Path, tmp_path: Path) -> None:
    from stages import Watched  # type: ignore[import-not-found]

    progress, mega = tmp_path / "progress.json", 2**20
    program = TAKES.format(now=50 * mega, soon=300 * mega, rest=60)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    watched = Watched(process.pid, progress, first="")
    try:
        assert process.stdout is not None and process.stdout.readline() == b"\n"  # nobody looks until the peak is past
        watched.look()
        progress.write_text(json.dumps({"state": "running", "stage": {"title": "training"}}))
        watched.look()
        watched.look()
    finally:
        process.kill()
        process.wait()
    start, training = watched.end()
    assert (start.title, training.title) == ("start", "training")
    assert start.peak["driver"] > 350 * mega > 200 * mega > training.peak["driver"] > 50 * mega
    assert 0 < start.cpu < 60 and training.seconds < 30


@pytest.mark.ray
@pytest.mark.slow
def test_a_part_of_it_runs_to_the_end(tmp_path: Path) -> None:
    command = [sys.executable, "jobs/scale/run.py", "--fraction", "0.008", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "scale.md").read_text()
    for title in ("draw MSMT17's counts", "pack all as a target", "train msmt17.yaml", "run all.yaml"):
        assert f"| {title} |" in page
    trained, all_of_them = (json.loads((tmp_path / name / "result.json").read_text())["rounds"][0] for name in ("msmt17", "all"))
    assert "train" in trained["seconds"] and 0 < trained["mAP"] < 1
    assert "train" not in all_of_them["seconds"]
    labels = [RunDirectory(tmp_path / name).round_labels(1)["labels"] for name in ("msmt17", "all")]
    assert [len(one) for one in labels] == [261, 261 + 93 + 657]
    figures = json.loads((tmp_path / "stages.json").read_text())
    pseudo = next(stage for stage in figures["train msmt17.yaml"] if stage["title"].startswith("features of the target's"))
    assert {"driver", "worker", "labelling actor"} <= pseudo["peak"].keys() and min(pseudo["peak"].values()) > 10e6
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0 and (tmp_path / "scale.md").read_text() == page, "what is there is not made again"

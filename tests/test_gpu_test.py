"""`make gpu-test`: its page on any machine, with what was run, what failed and what was skipped."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from distreid.cli import main
from distreid.methods.registry import SPECS

FILE = Path(__file__).parent.parent / "jobs" / "gpu_test.py"


@pytest.fixture(scope="module")
def job() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(FILE)))


def test_without_a_gpu_what_needs_one_is_skipped_with_the_reason(job: SimpleNamespace, tmp_path: Path) -> None:
    parts = job.parts(0, tmp_path)
    assert [part.title for part in parts if not part.skip] == ["What this machine is", "Tests marked gpu"]
    assert {part.skip for part in parts[2:]} == {"no CUDA device here"}


def test_with_gpus_every_method_trains_and_all_of_them_are_used(job: SimpleNamespace, tmp_path: Path) -> None:
    one, four = ({part.title: part for part in job.parts(gpus, tmp_path)} for gpus in (1, 4))
    assert all(not one[f"Demo of {name} on one GPU"].skip for name in SPECS)
    assert one["DDP over NCCL on all GPUs: figures as of fp32"].skip == "one GPU here; NCCL needs two"
    words = four["DDP over NCCL on all GPUs: figures as of fp32"].words
    assert {"runtime.workers=4", "adapt.batch_size=64", "runtime.gpu=yes"} <= set(words)


def test_the_commands_are_the_command_lines_own(job: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each names a command and options that there are: its help says so."""
    texts: dict[str, str] = {}
    for part in job.parts(3, tmp_path):
        if part.words[1] == "distreid" and not part.skip:
            name = part.words[2]
            if name not in texts:
                main([name, "--help"])
                texts[name] = capsys.readouterr().out
            assert not [word for word in part.words if word.startswith("--") and word not in texts[name]], part.title


def test_the_page_tells_of_every_part_and_a_failure_fails(job: SimpleNamespace, tmp_path: Path) -> None:
    said = job.Part("Says", ["-c", f"print({str(FILE)!r})"])
    fails = job.Part("Fails", ["-c", "raise SystemExit(3)"])
    skipped = job.Part("Left", ["-c", ""], "no CUDA device here")
    assert job.report([said, skipped], tmp_path / "good.md")
    assert not job.report([fails, said], tmp_path / "bad.md")
    good, bad = ((tmp_path / name).read_text() for name in ("good.md", "bad.md"))
    assert "| Says | passed |" in good and "| Left | skipped |" in good and "Skipped: no CUDA device here." in good
    assert "./jobs/gpu_test.py" in good and str(FILE.parent) not in good
    assert "| Fails | failed (exit code 3) |" in bad and "| Says | passed |" in bad

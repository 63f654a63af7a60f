import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distreid.common.errors import UserError
from distreid.common.files import atomic_write, draft_of
from distreid.common.layout import model_files, round_files
from distreid.methods.networks import kept_checkpoint, load_model
from distreid.training import RunDirectory, load_checkpoint, load_tensors, save_tensors

CONFIG = "seed: 0\nadapt:\n  rounds: 3\n  epochs: 2\nruntime:\n  workers: 1\n"
CHECKPOINT = {"format": 1, "model": {}}


def test_a_directory_holds_one_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG, resume=False)
    run.save(CHECKPOINT)
    run.close()
    with pytest.raises(UserError, match=r"already holds a run.*--resume"):
        RunDirectory(tmp_path / "run").create(CONFIG, resume=False)
    RunDirectory(tmp_path / "run").create(CONFIG, resume=True)


def test_resuming_may_change_who_computes_but_not_what(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG, resume=False)
    run.save(CHECKPOINT)
    run.create(CONFIG.replace("workers: 1", "workers: 2").replace("rounds: 3", "rounds: 5"), resume=True)
    assert "rounds: 5" in run.config.read_text()
    with pytest.raises(UserError, match=r"adapt\.epochs: 2 -> 9"):
        run.create(CONFIG.replace("epochs: 2", "epochs: 9"), resume=True)


def test_what_ended_before_there_was_anything_of_value_starts_over(tmp_path: Path) -> None:
    for resume in (False, True):
        run = RunDirectory(tmp_path / "run")
        run.create(CONFIG, resume=False)
        run.append({"epoch": 1})
        run.close()
        again = RunDirectory(tmp_path / "run")
        again.create(CONFIG.replace("seed: 0", "seed: 1"), resume=resume)
        assert "seed: 1" in again.config.read_text()
        again.close()


HOLDS = """
import sys, time
from distreid.training import RunDirectory
run = RunDirectory(sys.argv[1])
run.create(sys.argv[2], resume=True)
print("held", flush=True)
time.sleep(200)
"""


@pytest.mark.slow
def test_a_second_writer_is_sent_away_until_the_first_has_died(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG, resume=False)
    run.save(CHECKPOINT)
    run.close()
    first = subprocess.Popen([sys.executable, "-c", HOLDS, str(run.path), CONFIG], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"run: process {first.pid} on {platform.node()} is training it; wait until it ends"):
            RunDirectory(run.path).create(CONFIG, resume=True)
    finally:
        first.kill()
        first.wait()
    RunDirectory(run.path).create(CONFIG, resume=True)


def test_drafts_of_a_killed_writer_go(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG, resume=False)
    run.save(CHECKPOINT)
    run.close()
    draft = draft_of(run.last)
    draft.write_bytes(b"half")
    assert draft != draft_of(run.last)  # another process of the same number, in another container
    run.create(CONFIG, resume=True)
    assert [file.name for file in run.checkpoints.iterdir()] == ["last.pt"]


def test_a_hundredth_round_comes_last(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG, resume=False)
    for number in (9, 100, 99):
        save_tensors(run.round_checkpoint(number), CHECKPOINT)
    assert kept_checkpoint(run.path) == run.round_checkpoint(100)
    assert [file.name for file in round_files(run.checkpoints)] == ["round-09.pt", "round-99.pt", "round-100.pt"]
    names = [f"checkpoints/{file.name}" for file in run.checkpoints.iterdir()]
    assert model_files([*names, "checkpoints/last.pt", "metrics.jsonl"]) == ["metrics.jsonl", "checkpoints/round-100.pt"]


def test_a_strangers_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="not a run of distreid"):
        RunDirectory(tmp_path).create(CONFIG, resume=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(file) as out:
        out.write(b"half of the n")
        raise RuntimeError
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_metrics_written_after_the_last_checkpoint_are_forgotten(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG, resume=False)
    run.append({"epoch": 1})
    run.save(CHECKPOINT)
    run.append({"epoch": 2})
    saved = run.load()
    assert saved is not None
    run.truncate_metrics(saved["metrics_size"])
    assert [json.loads(line) for line in run.metrics.read_text().splitlines()] == [{"epoch": 1}]


def test_labels_come_back_and_old_features_go(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG, resume=False)
    run.save_labels(1, np.ones((3, 2), np.float32), labels=np.array([0, -1, 0]))
    run.save_labels(2, np.zeros((3, 2), np.float32), labels=np.array([0, 1, -1]))
    back = run.load_labels(2)
    assert back["labels"].tolist() == [0, 1, -1] and back["features_ND"].shape == (3, 2)
    assert isinstance(back["features_ND"], np.memmap)
    assert sorted(p.name for p in run.labels.iterdir()) == ["features-02.npy", "round-01.npz", "round-02.npz"]


def test_checkpoints_run_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/owned",))

    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match="safely"):
        load_tensors(tmp_path / "trap.pt")
    assert not (tmp_path / "owned").exists()


def test_a_strangers_checkpoint_is_told_in_a_whole_sentence(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(a=1)}, tmp_path / "theirs.pt")
    with pytest.raises(UserError, match=r"it holds an object \(argparse\.Namespace\) that only its own program may load$"):
        load_tensors(tmp_path / "theirs.pt")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"format": 2, "model": {}}, "its format is 2, and this distreid reads 1; update"),
        ({"model": {}}, "not a checkpoint of distreid"),
    ],
)
def test_a_checkpoints_format_is_read(value: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_tensors(tmp_path / "c.pt", value)
    for read in (load_checkpoint, load_model):
        with pytest.raises(UserError, match=message):
            read(tmp_path / "c.pt")


def test_a_truncated_checkpoint_names_the_way_back(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG, resume=False)
    run.save(CHECKPOINT)
    run.last.write_bytes(run.last.read_bytes()[:300])
    with pytest.raises(UserError, match=r"last\.pt: .*cut short.*put a copy of it back, or start anew in another output$"):
        run.load()
    save_tensors(run.round_checkpoint(3), CHECKPOINT)
    with pytest.raises(UserError, match=r"with pretrain\.checkpoint=.*round-03\.pt, the last round's model$"):
        run.load()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut short"])
def test_broken_checkpoints_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"c\.pt"):
        load_tensors(tmp_path / "c.pt")


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from distreid.common.errors import UserError
from distreid.training import save_tensors
file = Path(sys.argv[1])
save_tensors(file, {"x": torch.zeros(10)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_tensors(file, {"x": torch.zeros(1_000_000)})
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_no_space_for_a_checkpoint_keeps_the_last_one(tmp_path: Path) -> None:
    """The process really cannot write more: a limit on file size, which the kernel enforces as it does a full disk."""
    file = tmp_path / "last.pt"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(file)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith(str(file)) and len(done.stdout.splitlines()) == 1 and "free some space" in done.stdout
    assert load_tensors(file)["x"].shape == (10,)
    assert list(tmp_path.iterdir()) == [file]


def test_saved_tensors_come_back(tmp_path: Path) -> None:
    value = {"a": torch.arange(3), "nested": {"b": 0.5, "text": "x", "list": [1, {"c": None}]}}
    save_tensors(tmp_path / "x.pt", value)
    back = load_tensors(tmp_path / "x.pt")
    assert torch.equal(back["a"], value["a"]) and back["nested"] == value["nested"]

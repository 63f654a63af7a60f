import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from distreid.errors import UserError
from distreid.files import atomic_write
from distreid.training import RunDirectory, load_tensors, save_tensors

CONFIG = "seed: 0\nadapt:\n  rounds: 3\n  epochs: 2\nruntime:\n  workers: 1\n"


def test_a_directory_holds_one_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG, resume=False)
    with pytest.raises(UserError, match=r"already holds a run.*--resume"):
        RunDirectory(tmp_path / "run").create(CONFIG, resume=False)
    RunDirectory(tmp_path / "run").create(CONFIG, resume=True)


def test_resuming_may_change_who_computes_but_not_what(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG, resume=False)
    run.create(CONFIG.replace("workers: 1", "workers: 2").replace("rounds: 3", "rounds: 5"), resume=True)
    assert "rounds: 5" in run.config.read_text()
    with pytest.raises(UserError, match=r"adapt\.epochs: 2 -> 9"):
        run.create(CONFIG.replace("epochs: 2", "epochs: 9"), resume=True)


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
    run.save({"model": {}})
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


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut short"])
def test_broken_checkpoints_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"c\.pt"):
        load_tensors(tmp_path / "c.pt")


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from distreid.errors import UserError
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

"""Runs and data at a URI, with pyarrow's own local file system as the storage and a cache folder of its own as each machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import fs
from torch.multiprocessing import ProcessRaisedException

from distreid.actions.train import train
from distreid.cli import main
from distreid.common.errors import UserError
from distreid.common.layout import run_files
from distreid.common.mirror import Mirror
from distreid.common.storage import cache_folder, local_copy
from distreid.config import Config, config_from_dict, to_dict, to_yaml
from distreid.methods.daam.algorithm import DAAM
from distreid.training import ProcessGroup, RunDirectory
from distreid.training.context import Context
from distreid.training.domains import open_pair
from distreid.training.files import load_tensors, save_tensors
from distreid.training.in_process import LocalEvaluator, LocalLabeler
from tests.processes import on_ranks
from tests.training_runs import Silent, run

Machine = Callable[[str], None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """machine(NAME): from now on this process is on that machine."""
    return lambda name: monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


def test_a_file_is_fetched_once_and_again_when_it_changed(machine: Machine, tmp_path: Path) -> None:
    machine("a")
    file = tmp_path / "storage" / "set.arrow"
    file.parent.mkdir()
    file.write_bytes(b"one")
    copy = local_copy(file.as_uri())
    before = copy.stat().st_mtime_ns
    assert copy.read_bytes() == b"one" and copy.is_relative_to(cache_folder())
    assert local_copy(file.as_uri()) == copy and copy.stat().st_mtime_ns == before
    file.write_bytes(b"other")
    assert local_copy(file.as_uri()).read_bytes() == b"other"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file:///nowhere/set.arrow", "no such file; check the address"),
        ("ftp://host/a.arrow", "no address that pyarrow can open"),
    ],
)
def test_a_wrong_address_is_named(uri: str, message: str, machine: Machine) -> None:
    machine("a")
    with pytest.raises(UserError, match=f"{uri}: {message}"):
        local_copy(uri)


def test_two_machines_share_a_folder(machine: Machine, tmp_path: Path) -> None:
    uri = (tmp_path / "storage" / "run").as_uri()
    machine("a")
    first = Mirror(uri)
    first.fetch(run_files)  # nothing is there yet
    for name, text in {"config.yaml": "a", "checkpoints/last.pt": "1", "labels/features-01.npy": "f"}.items():
        (first.copy / name).parent.mkdir(exist_ok=True)
        (first.copy / name).write_text(text)
    first.publish("checkpoints/last.pt")
    machine("b")
    second = Mirror(uri)
    second.fetch(run_files)
    assert second.copy != first.copy and (second.copy / "checkpoints/last.pt").read_text() == "1"
    (second.copy / "checkpoints/last.pt").write_text("2")
    second.forget(second.copy / "labels/features-01.npy")
    second.publish("checkpoints/last.pt")
    first.fetch(run_files)
    assert (first.copy / "checkpoints/last.pt").read_text() == "2"
    assert sorted(str(file.relative_to(tmp_path / "storage/run")) for file in (tmp_path / "storage/run").rglob("*.*")) == [
        "checkpoints/last.pt", "config.yaml"
    ]  # fmt: skip


@pytest.mark.slow
def test_the_checkpoint_arrives_last(machine: Machine, tmp_path: Path) -> None:
    machine("a")
    mirror = Mirror((tmp_path / "storage").as_uri())
    mirror.copy.mkdir(parents=True)
    for name in ("a", "last.pt", "z"):
        (mirror.copy / name).write_text(name)
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "z").mkdir()  # where a file cannot be put
    with pytest.raises(UserError, match="cannot be written"):
        mirror.publish("last.pt")
    assert (tmp_path / "storage" / "a").exists() and not (tmp_path / "storage" / "last.pt").exists()


@pytest.mark.slow
def test_a_run_at_a_uri_is_continued_on_another_machine(
    machine: Machine, small_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = Silent()
    plain = run(small_config(output=tmp_path / "plain"), reporter)
    uri = (tmp_path / "storage" / "run").as_uri()
    config = small_config(f"output={uri}")
    for domain in (config.source, config.target):
        domain.data = Path(domain.data).as_uri()
    machine("a")
    with pytest.raises(KeyboardInterrupt):
        run(config, Silent(stop_at=reporter.calls // 2))
    machine("b")
    result = train(config, resume=True)
    assert result["final"] == plain["final"]
    there, _ = fs.FileSystem.from_uri(uri)
    assert isinstance(there, fs.LocalFileSystem)
    held = {str(file.relative_to(tmp_path / "storage/run")) for file in (tmp_path / "storage/run").rglob("*") if file.is_file()}
    assert {"config.yaml", "metrics.jsonl", "result.json", "report.html", "checkpoints/last.pt", "checkpoints/round-00.pt"} <= held
    assert json.loads((tmp_path / "storage/run/result.json").read_text())["final"] == plain["final"]
    assert RunDirectory(uri).load() is not None
    with pytest.raises(UserError, match=f"{uri} already holds a run"):
        train(config)
    capsys.readouterr()
    machine("c")
    main(["status", uri])
    main(["report", uri])
    assert "finished" in (said := capsys.readouterr().out) and str(tmp_path / "c") in said
    with pytest.raises(SystemExit):
        main(["status", f"{uri}-other"])
    assert f"{uri}-other: nothing is there" in capsys.readouterr().err


def _resumed(rank: int, world: int, options: dict[str, Any], folders: list[str]) -> int:
    """The epoch from which a worker with this cache folder goes on."""
    os.environ["XDG_CACHE_HOME"] = folders[rank]
    config = config_from_dict(options | {"output": options["output"].format(folders[rank])})
    parts = LocalLabeler(config.labels, torch.device("cpu")), LocalEvaluator({}, torch.device("cpu"))
    context = Context.begin(config, ProcessGroup(rank, world), *open_pair(config), *parts, RunDirectory(config.output), Silent())
    checkpoints = DAAM(context).checkpoints
    checkpoints.resume(config.adapt.rounds)
    return checkpoints._state.epoch


@pytest.mark.slow
@pytest.mark.parametrize("leading", ["a", "b"])
def test_workers_on_two_machines_go_on_from_one_checkpoint(
    leading: str, machine: Machine, small_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Machine a wrote one, and labels, that had not arrived in the storage when its worker died."""
    uri = (tmp_path / "storage").as_uri()
    config = small_config(f"output={uri}", "runtime.workers=2", "adapt.rounds=0", "model.backbone=timm/test_efficientnet_gn")
    machine("a")
    run(config)
    directory = RunDirectory(uri)
    saved = directory.load()
    assert saved is not None and saved["state"]["epoch"] == 0
    save_tensors(directory.last, {**saved, "state": {**saved["state"], "epoch": 1}})
    directory.save_labels(7, np.zeros((1, 1)))
    machine("b")
    Mirror(uri).fetch(run_files)
    others = "b" if leading == "a" else "a"
    assert on_ranks(2, _resumed, to_dict(config), [str(tmp_path / name) for name in (leading, others)]) == [leading == "a"] * 2
    there = load_tensors(tmp_path / "storage" / "checkpoints" / "last.pt")
    assert there["state"]["epoch"] == (leading == "a")
    machine("a")
    assert (directory.labels / "round-07.npz").exists() == (tmp_path / "storage" / "labels" / "round-07.npz").exists()
    assert (directory.labels / "round-07.npz").exists() == (leading == "a")


@pytest.mark.slow
def test_an_output_that_one_machine_alone_has_is_refused(small_config: Callable[..., Config], tmp_path: Path) -> None:
    """Before anything is trained, whichever machine leads."""
    config = small_config("runtime.workers=2", "model.backbone=timm/test_efficientnet_gn", output=tmp_path / "{}")
    folders = ["a", "b"]
    directory = RunDirectory(str(tmp_path / "b"))
    directory.create(to_yaml(config), resume=False)
    directory.close()
    with pytest.raises(ProcessRaisedException, match="the workers see different files; the output and the packed data must lie"):
        on_ranks(2, _resumed, to_dict(config), folders)


def test_an_outdated_file_that_nobody_asks_for_is_not_published_again(machine: Machine, tmp_path: Path) -> None:
    uri = (tmp_path / "storage").as_uri()
    for name, text in (("a", "of a try that died"), ("b", "of the next")):
        machine(name)
        mirror = Mirror(uri)
        for file in ("round-00.pt", "round-01.pt"):
            (mirror.copy / "checkpoints").mkdir(parents=True, exist_ok=True)
            (mirror.copy / "checkpoints" / file).write_text(text)
        if name == "b":
            mirror.publish("checkpoints/last.pt")
    machine("a")
    mirror = Mirror(uri)
    mirror.fetch(run_files)
    mirror.publish("checkpoints/last.pt")
    assert {file.read_text() for file in (tmp_path / "storage" / "checkpoints").iterdir()} == {"of the next"}

"""Runs and data at a URI, with pyarrow's own local file system as the storage and a cache folder of its own as each machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import fs

from distreid.actions.train import train
from distreid.cli import main
from distreid.common.errors import UserError
from distreid.common.layout import run_files
from distreid.common.mirror import Mirror
from distreid.common.storage import cache_folder, local_copy
from distreid.config import Config
from distreid.training import RunDirectory
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

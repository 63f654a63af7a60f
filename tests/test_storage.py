"""Runs on real object stores: nothing is lost, one writes at a time, and what fails is tried again or told in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distreid.actions.status import status
from distreid.actions.train import train
from distreid.common import claim as claims
from distreid.common import storage as remote
from distreid.common.claim import Claim, TakenOver, alive, read_word
from distreid.common.errors import UserError
from distreid.common.layout import run_files
from distreid.common.mirror import Mirror
from distreid.common.progress import Progress
from distreid.common.storage import Storage, local_copy
from distreid.common.terminal import TerminalReporter
from distreid.config import Config
from distreid.training import RunDirectory
from tests.report.runs import bare_run
from tests.storage import KEYS, TINY, Proxy, gcs_server, gcs_uri, s3_server, s3_uri

Machine = Callable[[str], None]
Uri = Callable[[int, str], str]


@pytest.fixture(scope="module")
def s3() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture(scope="module")
def gcs() -> Iterator[int]:
    with gcs_server() as port:
        yield port


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest) -> tuple[int, Uri]:
    """A server's port, and how its addresses are written."""
    kind = request.param
    return request.getfixturevalue("s3" if kind == "s3" else "gcs"), s3_uri if kind == "s3" else gcs_uri


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """machine(NAME): from now on this process is on that machine, as far as its cache and its word tell."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)

    def on(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        monkeypatch.setattr(claims, "_machine", lambda: name)

    on("a")
    return on


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits."""
    monkeypatch.setattr(claims, "HEARTBEAT", 0.4)
    monkeypatch.setattr(remote, "PAUSES", (0.1, 0.1))


def fill(mirror: Mirror, files: dict[str, str]) -> None:
    for name, text in files.items():
        (mirror.copy / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror.copy / name).write_text(text)


FILES = {"config.yaml": "a: 1", "checkpoints/last.pt": "1", "checkpoints/round-00.pt": "0", "labels/features-01.npy": "f"}


def test_a_run_travels_and_only_what_it_deleted_goes(store: tuple[int, Uri], machine: Machine) -> None:
    port, uri_of = store
    uri = uri_of(port, "travels/a")
    first = Mirror(uri)
    assert not first.fetch(run_files)
    fill(first, FILES)
    first.publish("checkpoints/last.pt")
    machine("b")
    second = Mirror(uri)
    assert second.fetch(run_files) and {name: (second.copy / name).read_text() for name in FILES} == FILES
    (second.copy / "checkpoints/round-00.pt").unlink()  # as a cache cleaner does
    second.forget(second.copy / "labels/features-01.npy")  # as the run does
    fill(second, {"checkpoints/last.pt": "22"})
    second.publish("checkpoints/last.pt")
    assert set(Storage(uri).list()) == {"config.yaml", "checkpoints/last.pt", "checkpoints/round-00.pt"}
    second.fetch(run_files)
    assert (second.copy / "checkpoints/round-00.pt").read_text() == "0"
    machine("a")
    fill(first, {"checkpoints/last.pt": "333"})
    with pytest.raises(UserError, match=r"last\.pt was written from elsewhere in the meantime"):
        first.publish("checkpoints/last.pt")
    first.fetch(run_files)
    assert (first.copy / "checkpoints/last.pt").read_text() == "22"


def test_a_forgotten_file_is_not_fetched_before_it_is_deleted_there(store: tuple[int, Uri], machine: Machine) -> None:
    port, uri_of = store
    mirror = Mirror(uri_of(port, "forgotten/a"))
    fill(mirror, FILES)
    mirror.publish("checkpoints/last.pt")
    mirror.forget(mirror.copy / "labels/features-01.npy")
    mirror.fetch(run_files)
    assert not (mirror.copy / "labels/features-01.npy").exists()


@pytest.mark.slow
def test_a_run_on_s3_loses_nothing_of_what_a_cache_cleaner_took(
    s3: int, machine: Machine, small_config: Callable[..., Config]
) -> None:
    uri = s3_uri(s3, "runs/a")
    config = small_config(f"output={uri}", *TINY)
    train(config)
    before = Storage(uri).list()
    (RunDirectory(uri).checkpoints / "round-00.pt").unlink()
    config.adapt.rounds = 2
    result = train(config, resume=True)
    there = Storage(uri).list()
    assert len(result["rounds"]) == 2 and there["checkpoints/round-00.pt"] == before["checkpoints/round-00.pt"]
    assert {"checkpoints/last.pt", "checkpoints/round-02.pt", "result.json", "report.html", "labels/round-02.npz"} <= set(there)
    machine("b")
    assert "finished" in status(uri) and "2/2 rounds" in status(uri)
    assert not list(RunDirectory(uri).path.rglob("*.pt"))  # no need of weights to tell that
    shutil.rmtree(RunDirectory(uri).path)
    assert len(train(config, resume=True)["rounds"]) == 2  # of a finished run on a new machine: nothing to do, and nothing lost
    assert set(Storage(uri).list()) == set(there)


@pytest.mark.slow
def test_a_healthy_run_looks_alive_from_another_machine(
    store: tuple[int, Uri], machine: Machine, hasty: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port, uri_of = store
    monkeypatch.setattr(claims, "WATCHED", 200)
    uri = uri_of(port, "beats/a")
    mirror = Mirror(uri)
    bare_run(mirror.copy)
    mirror.publish("checkpoints/last.pt")
    held = Claim(mirror.copy, mirror.storage)
    held.take()
    with Progress(held, TerminalReporter()):
        machine("b")
        first = read_word(uri)
        assert "running for" in status(uri)
        with pytest.raises(UserError, match=r"process \d+ on .* is training it; wait until it ends"):
            RunDirectory(uri).create("a: 1", resume=True)
        assert "watching for" in caplog.text
        now = read_word(uri)
        assert first is not None and now is not None and now["updated"] > first["updated"]
    word = read_word(uri)
    assert word is not None and word["state"] == "finished" and not alive(word)


def test_a_dead_machines_run_is_taken_over_and_its_ghost_overwrites_nothing(
    store: tuple[int, Uri], machine: Machine, hasty: None
) -> None:
    port, uri_of = store
    uri = uri_of(port, "ghost/a")
    ghost = RunDirectory(uri)
    ghost.create("seed: 0", resume=False)
    ghost.save({"format": 1, "epoch": 1})
    machine("b")
    heir = RunDirectory(uri)
    heir.create("seed: 0", resume=True)
    heir.save({"format": 1, "epoch": 2})
    machine("a")
    with pytest.raises(TakenOver, match="taken over by process"):
        ghost.save({"format": 1, "epoch": 9})
    with pytest.raises(TakenOver):
        ghost.claim.say({"state": "running"})
    ghost.close()
    word = read_word(uri)
    assert word is not None and word["token"] == heir.claim.token and word["state"] == "running"
    machine("c")
    saved = RunDirectory(uri).load()
    assert saved is not None and saved["epoch"] == 2


def test_a_run_that_was_taken_over_stops(s3: int, machine: Machine, hasty: None, caplog: pytest.LogCaptureFixture) -> None:
    uri = s3_uri(s3, "stops/a")
    mirror = Mirror(uri)
    held = Claim(mirror.copy, mirror.storage)
    held.take()
    with Progress(held, TerminalReporter()) as reporter:
        other = json.dumps({**(read_word(uri) or {}), "token": "another", "pid": 1}).encode()
        deadline = time.monotonic() + 60
        while not reporter.stopping() and time.monotonic() < deadline:
            Storage(uri).write("progress.json", other)
            time.sleep(0.2)
        assert reporter.stopping()
    assert [record.levelname for record in caplog.records if "taken over by process 1" in record.message] == ["WARNING"]


@pytest.mark.slow
def test_a_fault_of_the_moment_is_tried_again(store: tuple[int, Uri], machine: Machine, hasty: None, tmp_path: Path) -> None:
    port, uri_of = store
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    Storage(uri_of(port, "faults")).upload(tmp_path / "file", "a.bin")
    with Proxy(port) as proxy:
        uri = uri_of(proxy.port, "faults")
        proxy.fail = 2
        assert "a.bin" in Storage(uri).list() and proxy.fail == 0
        for after in (40, 20_000):  # within the answer's head; within the file
            proxy.cut, proxy.after = 1, after
            Storage(uri).download("a.bin", tmp_path / "back", len(content))
            assert (tmp_path / "back").read_bytes() == content and proxy.cut == 0
        proxy.delay = 0.5
        assert local_copy(uri_of(proxy.port, "faults/a.bin")).read_bytes() == content


@pytest.mark.slow
def test_a_server_that_goes_on_failing_is_one_line(
    store: tuple[int, Uri], machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port, uri_of = store
    monkeypatch.setattr(remote, "PAUSES", ())  # pyarrow's own tries are enough here
    Storage(uri_of(port, "fails")).write("a.bin", bytes(200_000))
    with Proxy(port) as proxy:
        uri = uri_of(proxy.port, "fails") + "&retry_limit_seconds=1" * (uri_of is gcs_uri)
        proxy.cut = 10**9
        with pytest.raises(UserError) as error:
            Storage(uri).download("a.bin", tmp_path / "back", 200_000)
        assert str(error.value).startswith(f"{uri}: cannot be read (") and "\n" not in str(error.value)
        assert list(tmp_path.glob("*back*")) == []
        proxy.cut, proxy.fail = 0, 10**9
        with pytest.raises(UserError) as error:
            Storage(uri).write("b", b"1")
        assert str(error.value).startswith(f"{uri}: cannot be written (") and "\n" not in str(error.value)
    assert set(Storage(uri_of(port, "fails")).list()) == {"a.bin"}


def test_wrong_addresses_are_one_line(store: tuple[int, Uri], machine: Machine, hasty: None) -> None:
    port, uri_of = store
    nowhere = uri_of(port, "a").replace("bucket", "no-bucket")
    with pytest.raises(UserError, match=r"no-bucket/a.*: cannot be written \(.*check the address and the credentials"):
        RunDirectory(nowhere).create("seed: 0", resume=False)
    with pytest.raises(UserError, match="nothing is there; check the address"):
        status(nowhere)


MOVES = """
import sys
from pathlib import Path
from distreid.common.storage import Storage
what, uri, file = sys.argv[1:]
print("goes", flush=True)
if what == "upload":
    Storage(uri).upload(Path(file), "big.bin")
else:
    Storage(uri).download("big.bin", Path(file), 12_000_000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["upload", "download"])
def test_a_killed_transfer_leaves_nothing_half_written(what: str, store: tuple[int, Uri], machine: Machine, tmp_path: Path) -> None:
    port, uri_of = store
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(bytes(12_000_000))
    new.write_bytes(b"1" * 12_000_000)
    folder = f"killed-{what}"
    Storage(uri_of(port, folder)).upload(old, "big.bin")
    with Proxy(port) as proxy:
        proxy.rate = 2_000_000
        file = new if what == "upload" else tmp_path / "copy"
        command = [sys.executable, "-c", MOVES, what, uri_of(proxy.port, folder), str(file)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 100
        while proxy.passed < 3_000_000 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 3_000_000 <= proxy.passed < 12_000_000
    assert not (tmp_path / "copy").exists()
    back = tmp_path / "back"
    Storage(uri_of(port, folder)).download("big.bin", back, 12_000_000)
    assert back.read_bytes() == old.read_bytes()

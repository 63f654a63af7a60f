"""Files at a URI that pyarrow.fs knows (``s3://``, ``gs://``, ``file://``), worked on in local copies. Ground, like `files`.

Credentials come from the environment, as pyarrow reads them; none is ever written down here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import fs

from distreid.errors import UserError
from distreid.files import atomic_write

Stamp = list[int]  # size in bytes, time of change in nanoseconds


def is_uri(text: str | Path) -> bool:
    return "://" in str(text)


def cache_folder() -> Path:
    """Where this user's copies and packed folders lie on this machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distreid"


def local_copy(uri: str) -> Path:
    """The file at ``uri``, fetched once: the processes of a node share the copy, a changed file is fetched again.

    Raises:
        UserError: the address is wrong, or nothing is there.
    """
    system, path = _open(uri)
    with _named(uri, "read"):
        info = system.get_file_info(path)
        if info.type != fs.FileType.File:
            raise UserError(f"{uri}: no such file; check the address")
        name = hashlib.sha256(f"{uri} {_stamp(info)}".encode()).hexdigest()[:16]
        copy = cache_folder() / "fetched" / name / Path(path).name
        with _locked(copy.with_name("lock")):
            if not copy.exists():
                _download(system, path, copy)
    return copy


def on_this_machine(place: str) -> Path:
    """A run directory or a checkpoint where it can be read: the place itself, or of a URI a copy that is made up to date."""
    if not is_uri(place):
        return Path(place)
    if place.endswith(".pt"):
        return local_copy(place)
    mirror = Mirror(place)
    mirror.fetch()
    if not any(not _hidden(file.name) for file in mirror.copy.iterdir()):
        raise UserError(f"{place}: nothing is there; check the address")
    return mirror.copy


class Mirror:
    """A folder at a URI and its copy on this machine, each made the same as the other when told to.

    A hidden file in the copy notes what both sides held when they were last the same. Raises `UserError` where the storage does.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._system, self._root = _open(uri)
        self.copy = cache_folder() / "runs" / f"{Path(uri).name}-{hashlib.sha256(uri.encode()).hexdigest()[:16]}"
        self._noted = self.copy / ".mirror.json"

    def fetch(self) -> None:
        """Bring what is new at the URI."""
        with _locked(self.copy / ".lock"), _named(self._uri, "read"):
            notes = self._notes()
            for info in self._system.get_file_info(fs.FileSelector(self._root, allow_not_found=True, recursive=True)):
                name = os.path.relpath(info.path, self._root)
                if info.type != fs.FileType.File or _hidden(name):
                    continue
                if name not in notes or notes[name]["there"] != _stamp(info):
                    _download(self._system, info.path, self.copy / name)
                    notes[name] = {"there": _stamp(info), "here": _stamp_here(self.copy / name)}
            self._note(notes)

    def publish(self, last: str) -> None:
        """Bring there what is new here; the file ``last`` at the end, since it speaks of the others."""
        with _locked(self.copy / ".lock"), _named(self._uri, "written"):
            notes = self._notes()
            names = [str(file.relative_to(self.copy)) for file in self.copy.rglob("*") if file.is_file()]
            for name in sorted((name for name in names if not _hidden(name)), key=lambda name: (name == last, name)):
                here = _stamp_here(self.copy / name)
                if name not in notes or notes[name]["here"] != here:
                    notes[name] = {"there": self._upload(name), "here": here}
            for name in set(notes) - set(names):
                self._system.delete_file(f"{self._root}/{name}")
                del notes[name]
            self._note(notes)

    def _upload(self, name: str) -> Stamp:
        there = f"{self._root}/{name}"
        self._system.create_dir(there.rpartition("/")[0], recursive=True)
        # An object store shows an object when it is whole; a file system needs a second name.
        atomic = not isinstance(self._system, fs.LocalFileSystem | fs.HadoopFileSystem)
        written = there if atomic else f"{there}.part"
        with (self.copy / name).open("rb") as source, self._system.open_output_stream(written) as sink:
            shutil.copyfileobj(source, sink)
        if not atomic:
            self._system.move(written, there)
        return _stamp(self._system.get_file_info(there))

    def _notes(self) -> dict[str, dict[str, Stamp]]:
        return json.loads(self._noted.read_text(encoding="utf-8")) if self._noted.exists() else {}

    def _note(self, notes: dict[str, dict[str, Stamp]]) -> None:
        with atomic_write(self._noted) as file:
            file.write(json.dumps(notes).encode())


def _open(uri: str) -> tuple[Any, str]:
    try:
        system, path = fs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise UserError(f"{uri}: no address that pyarrow can open ({str(error).splitlines()[0]})") from None
    return system, path.rstrip("/")


def _download(system: Any, path: str, out: Path) -> None:
    with atomic_write(out) as sink, system.open_input_stream(path) as source:
        shutil.copyfileobj(source, sink)


def _stamp(info: Any) -> Stamp:
    return [info.size, info.mtime_ns or 0]


def _stamp_here(file: Path) -> Stamp:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts) or name.endswith(".part")


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One process of this machine at a time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _named(uri: str, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{uri}: cannot be {done} ({reason}); check the address and the credentials") from None

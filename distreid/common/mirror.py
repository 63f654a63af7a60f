"""A run directory at a URI, worked on in a copy on this machine. Ground, like `files`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from distreid.common.errors import UserError
from distreid.common.files import atomic_write, locked
from distreid.common.layout import PROGRESS
from distreid.common.storage import Stamp, Storage, cache_folder, hidden, is_uri, local_copy

Wanted = Callable[[Iterable[str]], Iterable[str]]


def on_this_machine(place: str, wanted: Wanted) -> Path:
    """A run directory or a checkpoint where it can be read: the place itself, or of a URI a copy that is made up to date.

    Args:
        wanted: of a run directory's files, those to bring (`distreid.common.layout`).
    """
    if not is_uri(place):
        return Path(place)
    if place.partition("?")[0].endswith(".pt"):
        return local_copy(place)
    mirror = Mirror(place)
    if not mirror.fetch(wanted):
        raise UserError(f"{place}: nothing is there; check the address")
    return mirror.copy


class Mirror:
    """A folder at a URI and its copy on this machine. Raises `UserError` where the storage does.

    A hidden file in the copy notes what both sides held when they were last the same. A file that is missing on one side is just
    that, and not a wish to delete it: only :meth:`forget` deletes. Left out is progress.json, which
    `distreid.common.claim` keeps there.
    """

    def __init__(self, uri: str) -> None:
        self.storage = Storage(uri)
        self.copy = cache_folder() / "runs" / f"{self.storage.name}-{hashlib.sha256(uri.encode()).hexdigest()[:16]}"
        self._noted = self.copy / ".mirror.json"

    def fetch(self, wanted: Wanted, *, follow: bool = False) -> bool:
        """Bring what is new at the URI, or is missing here. Returns whether anything is there.

        What is not wanted and has changed there leaves the copy: it would be taken for news from here.

        Args:
            follow: another machine writes the run: what was written here and has not arrived there is of a process that died, and
                gives way.
        """
        with self.locked():
            there, notes = self._listed(), self._notes()
            if follow:
                for file in self._unpublished(notes):
                    file.unlink()
            needed = set(wanted(there))
            for name in there:
                note = notes.get(name)
                known = note is not None and note["there"] == there[name]
                forgotten = note is not None and note["here"] is None
                file = self.copy / name
                if name not in needed:
                    if not known:
                        file.unlink(missing_ok=True)
                elif not known or not (forgotten or file.exists()):
                    self.storage.download(name, file, there[name][0])
                    notes[name] = {"there": there[name], "here": _stamp(file)}
            if there:
                self._note(notes)
        return bool(there)

    def publish(self, last: str) -> None:
        """Bring there what is new here; the file ``last`` at the end, since it speaks of the others.

        Raises:
            UserError: what is to be replaced there is not what was last seen there; nothing has been replaced then.
        """
        with self.locked():
            there, notes = self._listed(), self._notes()
            here = {self._name(file): _stamp(file) for file in self._unpublished(notes)}
            fresh = list(here)
            for name in fresh:
                if name in there and name in notes and there[name] != notes[name]["there"]:
                    raise UserError(
                        f"{self.storage.uri}: {name} was written from elsewhere in the meantime, and is left as it is; only one "
                        "machine may write a run"
                    )
            for name in sorted(fresh, key=lambda name: (name == last, name)):
                self.storage.upload(self.copy / name, name)
            gone = [name for name, note in notes.items() if note["here"] is None]
            for name in gone:
                if name in there:
                    self.storage.delete(name)
                del notes[name]
            if fresh or gone:
                there = self._listed()
                self._note(notes | {name: {"there": there[name], "here": here[name]} for name in fresh if name in there})

    def forget(self, file: Path) -> None:
        """Delete a file of the copy, and with the next :meth:`publish` the one there."""
        with self.locked():
            file.unlink(missing_ok=True)
            notes, name = self._notes(), str(file.relative_to(self.copy))
            if name in notes:
                self._note(notes | {name: {**notes[name], "here": None}})

    def locked(self) -> AbstractContextManager[None]:
        return locked(self.copy / ".lock")

    def _listed(self) -> dict[str, Stamp]:
        return {name: stamp for name, stamp in self.storage.list().items() if name != PROGRESS}

    def _unpublished(self, notes: dict[str, dict[str, Stamp | None]]) -> list[Path]:
        """Files of the copy that are new, or not as they were when both sides were last the same."""
        files = [(file, name) for file in self.copy.rglob("*") if file.is_file() and (name := self._name(file))]
        return [file for file, name in files if name not in notes or notes[name]["here"] != _stamp(file)]

    def _name(self, file: Path) -> str:
        """Of a file that both sides hold; empty for others."""
        name = str(file.relative_to(self.copy))
        return "" if hidden(name) or name == PROGRESS else name

    def _notes(self) -> dict[str, dict[str, Stamp | None]]:
        return json.loads(self._noted.read_text(encoding="utf-8")) if self._noted.exists() else {}

    def _note(self, notes: dict[str, dict[str, Stamp | None]]) -> None:
        with atomic_write(self._noted) as file:
            file.write(json.dumps(notes).encode())


def _stamp(file: Path) -> Stamp:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]

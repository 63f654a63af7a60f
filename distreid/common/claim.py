"""One writer a run: who it is, whether it still works, and how a second one notices. Ground, like `files`.

A process that trains says so in progress.json of the run directory, or of the run's URI, again every `HEARTBEAT` seconds. On one
machine a file lock keeps two writers apart, which a crash frees. Between machines no clock is compared: whoever finds another
machine's word watches whether it changes, and takes the run over only if it does not; the word holds a token of its claim, which
every writer looks up before it publishes, so that one that was only away stops and overwrites nothing.

What this cannot see, since pyarrow writes to object stores without a condition: two machines that begin within the same instant
(the second word wins, and the first stops at its next look), and a writer that was away for longer than the watch at the very
moment between its look and the end of its upload.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import time
import uuid
from pathlib import Path
from typing import Any, TextIO

from distreid.common.errors import UserError
from distreid.common.files import atomic_write, writing
from distreid.common.layout import PROGRESS
from distreid.common.storage import Storage, is_uri

Word = dict[str, Any]

HEARTBEAT = 15.0  # seconds between two words at most
SILENCE = 120.0  # seconds without one after which `status` takes a run on another machine for dead, by this machine's clock
WATCHED = 3  # heartbeats that a claim waits for the word of another machine
LOCK = ".writer"

log = logging.getLogger(__name__)


class Claim:
    """A process's right to write a run.

    Args:
        folder: the run on this machine.
        storage: where the run lies, if not there.
        token: of a claim that another process has taken for this one (a worker's driver).
    """

    def __init__(self, folder: Path, storage: Storage | None = None, token: str | None = None) -> None:
        self.token = token
        self.heartbeat = HEARTBEAT  # seconds between two words at most
        self.cadence = 1.0 if storage is None else HEARTBEAT  # and at least
        self._folder, self._storage = folder, storage
        self._lock: TextIO | None = None
        self._shown = storage.uri if storage is not None else str(folder)
        self._word: Word = {}

    def take(self) -> None:
        """Become the writer.

        Raises:
            UserError: another process is.
        """
        if self._lock is not None:
            return
        self._lock_file()
        try:
            word = self._read()
            if word is not None and word.get("state") == "running" and self._works(word):
                raise UserError(_taken(self._shown, f"process {word.get('pid')} on {word.get('host')}"))
            self.token = uuid.uuid4().hex
            now = time.time()
            self._write({"state": "running", **this_process(), "started": now, "stage": None, "figures": {}, "updated": now})
        except BaseException:
            self._unlock()
            raise

    def say(self, word: Word) -> None:
        """Leave this word where others look for one. Raises as :meth:`check`."""
        self.check()
        self._write(word)

    def check(self) -> None:
        """Raises:
        TakenOver: the run has another writer by now.
        UserError: the storage does not answer.
        """
        word = self._read() if self.token is not None else None
        if word is not None and word.get("token") != self.token:
            other = f"process {word.get('pid')} on {word.get('host')}"
            raise TakenOver(f"{self._shown}: taken over by {other}; this process ends and overwrites nothing of it")

    def release(self) -> None:
        """Let others write."""
        if self._lock is None:
            return
        try:
            if self._word["state"] == "running":  # it ended before it had a `Progress` to say so
                self.say({**self._word, "state": "interrupted"})
        except UserError:
            pass  # what another process needs is that this one ends
        finally:
            self._unlock()

    def _lock_file(self) -> None:
        with writing(self._folder / LOCK):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / LOCK).open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise UserError(_taken(self._shown, holder)) from None
        except OSError:
            pass  # a file system without locks: the word alone must do
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}\n")
        lock.flush()
        self._lock = lock

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _works(self, word: Word) -> bool:
        if _is_here(word):
            return word.get("pid") != os.getpid() and _lives(word)  # what this process holds, its lock has told
        seconds = WATCHED * float(word.get("heartbeat", HEARTBEAT))
        log.warning(
            "%s: last written by process %s on %s; watching for %.0f s whether it still works",
            *(self._shown, word.get("pid"), word.get("host"), seconds),
        )
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(seconds / 30)
            if self._read() != word:
                return True
        return False

    def _read(self) -> Word | None:
        return _parsed(self._storage.read(PROGRESS)) if self._storage is not None else read_word(self._folder)

    def _write(self, word: Word) -> None:
        self._word = {**word, "token": self.token, "heartbeat": self.heartbeat}
        content = json.dumps(self._word).encode()
        if self._storage is not None:
            self._storage.write(PROGRESS, content)
        else:
            with atomic_write(self._folder / PROGRESS) as file:
                file.write(content)


class TakenOver(UserError):  # noqa: N818 - not this process's mistake
    """Another process writes the run that this one wrote."""


def _taken(run: str, holder: str) -> str:
    return f"{run}: {holder} is training it; wait until it ends, or stop it, and continue with --resume"


def read_word(place: str | Path) -> Word | None:
    """What the run at ``place``, a folder or a URI, last said about itself; None where there is nothing (to be) read."""
    if is_uri(place):
        return _parsed(Storage(str(place)).read(PROGRESS))
    try:
        return _parsed((Path(place) / PROGRESS).read_bytes())
    except OSError:
        return None


def _parsed(content: bytes | None) -> Word | None:
    try:
        word = json.loads(content or b"")
    except ValueError:
        return None
    return word if isinstance(word, dict) else None


def this_process() -> Word:
    """What tells a process from all others. machine: containers may share a host's name, and have process numbers of their own."""
    return {"host": platform.node(), "machine": _machine(), "pid": os.getpid(), "born": _born(os.getpid())}


def alive(word: Word) -> bool:
    """Whether the process that said ``word`` still runs: looked up here, judged by its heartbeat on another machine."""
    if word["state"] != "running":
        return False
    return _lives(word) if _is_here(word) else time.time() - word["updated"] < SILENCE


def _is_here(word: Word) -> bool:
    return word.get("host") == platform.node() and word.get("machine", _machine()) == _machine()


def _lives(word: Word) -> bool:
    pid, born = word["pid"], word["born"]
    return _born(pid) == born if born is not None else _exists(pid)


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path
    except OSError:
        return ""


def _born(pid: int) -> str | None:
    """When a process started, in the kernel's own count, so that another one with its number is told apart; None if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

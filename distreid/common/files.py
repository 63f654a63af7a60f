"""Output files that are whole or not there. Like `errors`, this is ground that every column may stand on."""

import errno
import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from distreid.common.errors import UserError


def expand(place: str, key: str) -> str:
    """A path with its ``~`` and ``$NAME`` replaced. key: the setting that names it. `UserError` for a variable that is not set."""
    expanded = os.path.expanduser(os.path.expandvars(place))  # noqa: PTH111 - a Path would spoil a URI
    unset = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unset:
        raise UserError(f"{key}={place}: the environment variable {unset[1].strip('{}')} is not set")
    return expanded


@contextmanager
def atomic_write(out: Path) -> Iterator[BinaryIO]:
    """A new file beside ``out`` that takes its place when the block ends well and vanishes when it does not.

    Makes the folder if need be. Raises `UserError` if anything about writing fails; the block's own errors pass, unless they are
    `OSError`s, which are taken for errors in writing.
    """
    _no_folder(out)
    draft = draft_of(out)
    try:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(out)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def check_writable(*outs: Path | None) -> None:
    """`UserError` unless these files can be written: said before the work whose result they are to hold. It leaves no trace.

    Tried for real, in the innermost folder that is there: permissions do not tell all (root, read-only mounts).
    """
    for out in filter(None, outs):
        _no_folder(out)
        with writing(out):
            folder = next(place for place in out.absolute().parents if place.exists())
            draft = draft_of(folder / out.name)
            draft.touch()
            draft.unlink()


def _no_folder(out: Path) -> None:
    if out.is_dir():
        raise UserError(f"{out}: is a folder; give the name of a file to write")


def check_free(out: Path) -> None:
    """`UserError` unless the folder ``out`` can be made: nothing is there, or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: name another one, or remove it first")


def draft_of(out: Path) -> Path:
    """A hidden name beside ``out`` that no other process takes: containers on shared storage have the same process numbers."""
    return out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")


def drop_drafts(folder: Path) -> None:
    """Remove what killed writers left half-written in ``folder``, where nobody else writes now."""
    for draft in folder.glob(".*.tmp"):
        with suppress(OSError):
            draft.unlink()


def drop_oldest(folder: Path, limit: int) -> None:
    """Remove the files of ``folder`` that were changed (or touched) longest ago, until the rest has at most ``limit`` bytes.

    Others may be reading and removing them, and a file that cannot be removed stays.
    """
    kept = 0
    stats = []
    for file in folder.iterdir():
        with suppress(OSError):
            stats.append((file.stat().st_mtime_ns, file.stat().st_size, file))
    for _, size, file in sorted(stats, reverse=True):
        kept += size
        if kept > limit:
            with suppress(OSError):
                file.unlink()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """One process of this machine at a time."""
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `UserError` that names ``out`` and says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space or choose another place" if full else "check the folder and its permissions"
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); {advice}") from None

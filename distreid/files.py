"""Output files that are whole or not there. Like `errors`, this is ground that every column may stand on."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from distreid.errors import UserError


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
    if out.is_dir():
        raise UserError(f"{out}: is a folder; give the name of a file to write")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(out)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `UserError` that names ``out`` and says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space or choose another place" if full else "check the folder and its permissions"
        raise UserError(f"{out}: cannot be written ({error.strerror}); {advice}") from None

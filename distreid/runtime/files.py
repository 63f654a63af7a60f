"""Files that are whole or not there: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from distreid.errors import UserError


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file that replaces ``path`` when the block ends well and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open(mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"{path}: no space left to write it; free some and continue with --resume") from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def save_tensors(path: Path, value: dict[str, Any]) -> None:
    """Nested dictionaries of tensors, numbers and text, readable by :func:`load_tensors`."""
    # Through memory, because torch's own file writer hides the reason when a disk is full.
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load a checkpoint without running any code in it (``weights_only``)."""
    try:
        value = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a checkpoint that can be loaded safely ({reason[:120]})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a checkpoint of distreid")
    return value

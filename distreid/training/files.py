"""Checkpoints and JSON, written whole or not at all; a checkpoint is read without running anything in it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

from distreid.errors import UserError
from distreid.files import atomic_write


def write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


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

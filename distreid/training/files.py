"""Checkpoints and JSON, written whole or not at all; a checkpoint is read without running anything in it."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from distreid.common.errors import UserError
from distreid.common.files import atomic_write
from distreid.config import Config, config_from_dict

FORMAT = 1  # of a checkpoint: goes up when an older distreid could not read it, or would misread it


def write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


def save_tensors(path: Path, value: dict[str, Any]) -> None:
    """Nested dictionaries of tensors, numbers and text, readable by :func:`load_tensors`."""
    with atomic_write(path) as file:
        writer = _Writer(file)
        torch.save(value, writer)  # type: ignore[arg-type]  # of a file it only writes
        if writer.error is not None:
            raise writer.error


class _Writer(io.RawIOBase):
    """Keeps the reason why a disk took no more: told so while it writes, torch hides it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint that `distreid.training.loop` wrote.

    Raises:
        UserError: it is damaged, another program's, or of a format that a later distreid writes.
    """
    value = load_tensors(path, device)
    if "format" not in value:
        raise UserError(f"{path}: not a checkpoint of distreid")
    if value["format"] != FORMAT:
        raise UserError(f"{path}: its format is {value['format']!r}, and this distreid reads {FORMAT}; update distreid")
    return value


def trained_config(saved: Mapping[str, Any]) -> Config:
    """The configuration that a checkpoint's network was built by.

    0.1.0, whose checkpoints do not say by what images are normalised, built timm's backbones with their last stride whatever
    ``model.last_stride`` said.
    """
    config = config_from_dict(saved["config"])
    if "normalisation" in saved or not config.model.backbone.startswith("timm/"):
        return config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, last_stride=2))


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load nested dictionaries of tensors without running any code in the file (``weights_only``)."""
    try:
        value = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:
        raise UserError(f"{path}: not a checkpoint that can be loaded safely: {_reason(str(error))}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a checkpoint of distreid")
    return value


def _reason(message: str) -> str:
    """In a whole phrase, since torch's own message is a page."""
    foreign = re.search(r"GLOBAL ([\w.]+)", message)
    if foreign:
        return f"it holds an object ({foreign[1]}) that only its own program may load"
    return "the file is cut short, damaged, or of another kind"

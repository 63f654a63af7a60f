"""Where things lie in a run directory, and which of them a reader needs. Ground, like `files`.

A run directory: config.yaml, environment.json, metrics.jsonl, progress.json, result.json, checkpoints/, labels/, report.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

PROGRESS = "progress.json"
LAST = "checkpoints/last.pt"


def round_name(number: int, suffix: str) -> str:
    """The name of a round's checkpoint (``.pt``, in checkpoints/) or labels (``.npz``, in labels/)."""
    return f"round-{number:02d}{suffix}"


def round_number(name: str | PurePosixPath) -> int | None:
    """The round that a file of :func:`round_name` is of; None for any other file."""
    found = re.fullmatch(r"round-(\d+)\.(pt|npz)", PurePosixPath(name).name)
    return int(found[1]) if found else None


def round_files(folder: Path) -> list[Path]:
    """The files of rounds in ``folder``, by their number: a hundredth round comes after the 99th."""
    numbers = {file: number for file in folder.glob("round-*") if (number := round_number(file.name)) is not None}
    return sorted(numbers, key=lambda file: numbers[file])


def small_files(names: Iterable[str]) -> list[str]:
    """What `distreid status` reads: a run's word about itself, no weights, no arrays."""
    return [name for name in names if "/" not in name and not name.endswith(".html")]


def model_files(names: Iterable[str]) -> list[str]:
    """What `evaluate`, `embed` and the like read: the last finished round's checkpoint."""
    names = list(names)
    rounds = [name for name in names if name.startswith("checkpoints/") and round_number(name) is not None]
    return small_files(names) + sorted(rounds, key=lambda name: round_number(name) or 0)[-1:]


def pretrained_files(names: Iterable[str]) -> list[str]:
    """The model at the end of pre-training."""
    return [name for name in names if name.startswith("checkpoints/") and round_number(name) == 0]


def page_files(names: Iterable[str]) -> list[str]:
    """What a report is made of: all but the checkpoints that no picture is taken of."""
    names = list(names)
    kept = set(model_files(names))
    return [name for name in names if name in kept or not name.startswith("checkpoints/")]


def run_files(names: Iterable[str]) -> list[str]:
    """What a run is continued from, and the report at its end."""
    names = list(names)
    return page_files(names) + [name for name in names if name == LAST]

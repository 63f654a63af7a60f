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


def kept_name(kept: int, last: int) -> str:
    """The name of the file in checkpoints/ that says: of the rounds up to ``last``, it is ``kept`` whose model counts.

    In the name, since what is where must be known before anything is fetched; with ``last``, so that it says nothing of a run that
    has gone on since.
    """
    return f"kept-{kept:02d}-of-{last:02d}"


def model_round(names: Iterable[str]) -> int | None:
    """Of the names of files in checkpoints/, the round whose model counts: the last one, unless a run's rule has kept another."""
    names = [PurePosixPath(name).name for name in names]
    last = max((number for name in names if (number := round_number(name)) is not None), default=None)
    if last is None:
        return None
    marks = [(int(found[2]), int(found[1])) for name in names if (found := re.fullmatch(r"kept-(\d+)-of-(\d+)", name))]
    of, kept = max(marks, default=(-1, last))
    return kept if of >= last else last


def small_files(names: Iterable[str]) -> list[str]:
    """What `distreid status` reads: a run's word about itself, no weights, no arrays."""
    return [name for name in names if "/" not in name and not name.endswith(".html")]


def judged_files(names: Iterable[str]) -> list[str]:
    """What `distreid status --json` reads: the labels of each round too, no features and no weights."""
    names = list(names)
    return small_files(names) + [name for name in names if name.startswith("labels/") and round_number(name) is not None]


def model_files(names: Iterable[str]) -> list[str]:
    """What `evaluate`, `embed` and the like read: the checkpoint of the round that :func:`model_round` names, and what says so."""
    names = list(names)
    kept = [name for name in names if name.startswith("checkpoints/")]
    number = model_round(kept)
    return small_files(names) + [name for name in kept if "/kept-" in name or (number is not None and round_number(name) == number)]


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

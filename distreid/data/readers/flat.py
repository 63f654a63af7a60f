"""The layout that Market-1501 began: three flat folders, identity and camera in every file name."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.data.readers.files import find_root, flat_images, others_note, sample
from distreid.data.readers.published import Published, camera_note, compare, is_nearly, lonely_queries
from distreid.data.records import DISTRACTOR, UNKNOWN, Dataset, Record

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


@dataclass(frozen=True, slots=True)
class FlatLayout:
    """A data set of this layout. ``name`` matches file names from their start, with the groups ``pid`` and ``camid``."""

    title: str
    format: str
    name: re.Pattern[str]
    example: str
    published: Mapping[str, Published]
    """Of each split: all image files, and the identities that are people looked for."""
    cameras: int
    has_junk: bool
    """Whether pid -1 (detector boxes to ignore) and 0 (distractors) have Market-1501's meaning."""
    folders: Mapping[str, str] = field(default_factory=lambda: FOLDERS)
    names_repeat: bool = False
    """Whether a file's name may stand in two folders: elsewhere it means two downloads mixed, or a query left in the gallery."""
    numbered_anew: bool = False
    """Whether the test folders number other people from the start again: a pid there and in training is not one person."""


def read_flat(root: Path, layout: FlatLayout) -> Dataset:
    """Reads the splits that are there (at least one) and checks them against each other and the published counts.

    Raises `UserError` for a wrong root, an empty split, names that do not parse, the same name twice, and identities that are
    both trained and tested on.
    """
    find_root(root, list(layout.folders.values()), layout.title)
    records: list[Record] = []
    notes: list[str] = []
    whole = False
    for split, folder_name in layout.folders.items():
        folder = root / folder_name
        if not folder.is_dir():
            notes.append(f"{split}: no folder {folder_name}, so " + _without(split))
            continue
        paths, others = flat_images(folder)
        found = _parse(paths, split, folder, layout)
        here = _count(found, layout)
        notes.append(compare(split, here, layout.published[split], layout.title))
        whole |= is_nearly(here, layout.published[split])
        kept, dropped = _drop(found, layout)
        if not kept:
            raise UserError(f"{folder}: only junk and distractors, nobody to {'train on' if split == 'train' else 'look for'}")
        notes += [f"{split}: {line}" for line in dropped]
        if others:
            notes.append(f"{split}: {others_note(others)} ignored")
        records += kept
    _check_duplicates(records, root, layout)
    if not layout.numbered_anew:
        _check_overlap(records, root, layout)
    notes += camera_note(records, layout.cameras, layout.title) if whole else []
    notes += lonely_queries(records)
    return Dataset(root.resolve().name, layout.format, root, tuple(records), tuple(notes))


def _without(split: str) -> str:
    return "it can only be evaluated on" if split == "train" else "it cannot be evaluated on"


def _parse(paths: list[Path], split: str, folder: Path, layout: FlatLayout) -> list[Record]:
    matches = [(path, layout.name.match(path.name)) for path in paths]
    bad = [path.name for path, match in matches if match is None]
    if bad:
        raise UserError(
            f"{folder}: {plural(len(bad), 'file name')} not of {layout.title}'s form {layout.example}: {sample(bad)}; "
            "rename or remove them, or choose another format"
        )
    return [Record(path, int(match["pid"]), int(match["camid"]), split) for path, match in matches if match]


def _drop(found: list[Record], layout: FlatLayout) -> tuple[list[Record], list[str]]:
    """Leaves out junk everywhere and distractors where they are no negatives, and says how many."""
    if not layout.has_junk:
        return found, []
    junk = sum(record.pid == UNKNOWN for record in found)
    stray = sum(record.pid == DISTRACTOR and record.split != "gallery" for record in found)
    distractors = sum(record.pid == DISTRACTOR for record in found) - stray
    kept = [record for record in found if record.pid > DISTRACTOR or (record.pid, record.split) == (DISTRACTOR, "gallery")]
    lines = [
        f"{plural(junk, 'junk image')} (-1) left out" if junk else "",
        f"{plural(stray, 'distractor')} (0000) left out, they are no identity" if stray else "",
        f"{plural(distractors, 'distractor')} (0000) kept as negatives" if distractors else "",
    ]
    return kept, [line for line in lines if line]


def _count(found: list[Record], layout: FlatLayout) -> Published:
    distractor = DISTRACTOR if layout.has_junk else UNKNOWN
    return Published(len(found), len({record.pid for record in found if record.pid > distractor}))


def _check_duplicates(records: list[Record], root: Path, layout: FlatLayout) -> None:
    """The same name in two splits or with two suffixes: two downloads mixed, or a query left in the gallery."""
    names = [(record.path.stem, record.split if layout.names_repeat else "") for record in records]
    counts = Counter(names)
    twice = [record.path.relative_to(root).as_posix() for record, name in zip(records, names, strict=True) if counts[name] > 1]
    if twice:
        raise UserError(f"{root}: the same file name more than once: {sample(twice, 4)}; keep one of each")


def _check_overlap(records: list[Record], root: Path, layout: FlatLayout) -> None:
    trained = {record.pid for record in records if record.split == "train"}
    tested = {record.pid for record in records if record.split != "train"}
    both = sorted(trained & tested)
    if both:
        raise UserError(
            f"{root}: {plural(len(both), 'identity')} both in {layout.folders['train']} and in the test folders ({sample(both)}); "
            "accuracies would mean nothing: remove one side"
        )

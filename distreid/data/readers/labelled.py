"""From what people's own folders and tables say of an image, as text, to a data set."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.data.readers.files import others_note, sample
from distreid.data.readers.published import lonely_queries
from distreid.data.records import SPLITS, UNKNOWN, Dataset, Record

WHOLE = re.compile(r"\d{1,9}")  # what fits the packed file's int32


@dataclass(frozen=True, slots=True)
class Found:
    """One image; ``pid`` is the identity's name, None where nobody noted it."""

    path: Path
    pid: str | None
    camid: int
    split: str


def make_dataset(
    name: str,
    format: str,
    root: Path,
    found: Iterable[Found],
    notes: Sequence[str] = (),
    others: Sequence[str] = (),
    place: Path | None = None,
) -> Dataset:
    """Numbers the identities, leaves out images without one, and counts what is there. Training images stay if none has one.

    ``others`` are names of files that are no images; ``place`` is what messages name, if not the root. Raises `UserError` for
    identities that are both trained and tested on.
    """
    found, place = list(found), place or root
    numbers, said = number_names(place, {one.pid for one in found if one.pid is not None}, "identity")
    unlabelled = all(one.pid is None for one in found if one.split == "train")
    kept = [one for one in found if one.pid is not None or (unlabelled and one.split == "train")]
    records = [Record(one.path, UNKNOWN if one.pid is None else numbers[one.pid], one.camid, one.split) for one in kept]
    records.sort(key=lambda record: (SPLITS.index(record.split), record.path.as_posix()))
    _check_overlap(records, place)
    lines = [_count(split, records) for split in SPLITS if any(record.split == split for record in records)]
    lines += [*said, *notes]
    if len(kept) < len(found):
        lines.append(f"{plural(len(found) - len(kept), 'image')} without an identity left out")
    unknown = sum(record.camid == UNKNOWN for record in records)
    if unknown == len(records) and numbers:
        lines.append("cameras unknown: a test leaves out nothing but the query itself")
    elif 0 < unknown < len(records):
        lines.append(f"{plural(unknown, 'image')} of an unknown camera, which is taken for another one than every other")
    if others:
        lines.append(f"{others_note(others)} ignored")
    return Dataset(name, format, root, tuple(records), (*lines, *lonely_queries(records)))


def number_names(place: Path, names: set[str], noun: str) -> tuple[Mapping[str, int], list[str]]:
    """A number for each name: its own if all are whole numbers, else as `in_order` has it.

    Raises `UserError`, which begins with ``place``, for one number written in two ways (1 and 0001).
    """
    if not all(WHOLE.fullmatch(name) for name in names):
        return in_order(names, noun)
    first: dict[int, str] = {}
    for name in sorted(names):
        if first.setdefault(int(name), name) != name:
            raise UserError(f"{place}: {noun} {first[int(name)]} and {noun} {name} are one number in two ways; write it in one")
    return {name: int(name) for name in names}, []


def in_order(names: set[str], noun: str) -> tuple[Mapping[str, int], list[str]]:
    """Numbers from 1 in the order of the names, and a note that says so."""
    numbers = {name: number for number, name in enumerate(sorted(names), start=1)}
    listed = sample([f"{name} = {number}" for name, number in numbers.items()])
    return numbers, [f"{plural(len(names), noun)} numbered from 1 in the order of the names: {listed}"]


def _count(split: str, records: list[Record]) -> str:
    own = [record for record in records if record.split == split]
    pids, camids = {record.pid for record in own}, {record.camid for record in own} - {UNKNOWN}
    who = "identities unknown" if pids == {UNKNOWN} else plural(len(pids), "identity")
    if pids == {UNKNOWN} and not camids:
        who = "identities and cameras unknown"
    cameras = f", {plural(len(camids), 'camera')}" if camids else ""
    return f"{split}: {plural(len(own), 'image')}, {who}{cameras}"


def _check_overlap(records: list[Record], place: Path) -> None:
    trained = {record.pid for record in records if record.split == "train"}
    tested = {record.pid for record in records if record.split in ("query", "gallery")}
    both = sorted((trained & tested) - {UNKNOWN})
    if both:
        raise UserError(
            f"{place}: {plural(len(both), 'identity')} both in train and in query or gallery ({sample(both)}); "
            "accuracies would mean nothing: remove one side"
        )

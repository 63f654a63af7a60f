"""What a reader finds in an image folder: one record an image, and the data set they make."""

from dataclasses import dataclass
from pathlib import Path

UNKNOWN = -1
"""The pid or camid of an image whose identity or camera nobody noted."""

DISTRACTOR = 0
"""Market-1501's pid of gallery images that show none of the queried people; they count as wrong answers."""

SPLITS = ("train", "query", "gallery", "spare")
"""In the order of a store's rows. Spare images take part in nothing; they are kept for protocols that draw splits of their own."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image: where it lies, who it shows (pid), which camera took it (camid, numbered as in the data set), its split."""

    path: Path
    pid: int
    camid: int
    split: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """All records of a folder, ordered by split (as in `SPLITS`) and path, so that every process and machine agrees.

    ``name`` is the folder's name, ``format`` the reader's; ``notes`` are lines for people: counts against the published ones,
    what was left out and why.
    """

    name: str
    format: str
    root: Path
    records: tuple[Record, ...]
    notes: tuple[str, ...]

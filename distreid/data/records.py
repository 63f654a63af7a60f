"""What a reader finds in an image folder: one record an image, and the data set they make."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

UNKNOWN = -1
"""The pid or camid of an image whose identity or camera nobody noted."""

DISTRACTOR = 0
"""Market-1501's pid of gallery images that show none of the queried people; they count as wrong answers."""

SPLITS = ("train", "query", "gallery", "spare", "test")
"""In the order of a store's rows. Test images are both queried and searched in; spare ones are neither, in the first split."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image: where it lies, who it shows (pid), which camera took it (camid, numbered as in the data set), its split."""

    path: Path
    pid: int
    camid: int
    split: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a data set is tested.

    ``name`` is ``single_query``; ``single_shot``, one gallery image a person (CUHK03); or ``cross_camera``, one camera's images
    looked up in the other's (PRID2011). The latter two are means over random splits: ``test_pids`` are the identities that each
    tests, ascending, and the others train. A record's split is that of the first.
    """

    name: str = "single_query"
    test_pids: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "Protocol":
        """From JSON, where tuples have become lists."""
        return cls(fields["name"], tuple(tuple(pids) for pids in fields["test_pids"]))


SINGLE_QUERY = Protocol()


@dataclass(frozen=True, slots=True)
class Dataset:
    """All records of a folder, ordered by split (as in `SPLITS`) and path, so that every process and machine agrees.

    ``name`` is the folder's name, ``format`` the reader's; ``notes`` are lines for people: counts against the published ones,
    what was left out and why. ``pixels`` gives a record's image, uint8 [H, W, 3], where the images are no files of their own.
    """

    name: str
    format: str
    root: Path
    records: tuple[Record, ...]
    notes: tuple[str, ...]
    protocol: Protocol = SINGLE_QUERY
    pixels: Callable[[Record], npt.NDArray[np.uint8]] | None = None

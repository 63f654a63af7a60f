"""Several packed data sets, or parts of them, as one: their people and cameras are kept apart, whatever their numbers were."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from distreid import __version__
from distreid.common.errors import UserError
from distreid.common.files import atomic_write
from distreid.common.text import plural
from distreid.data.records import SPLITS, UNKNOWN
from distreid.data.selection import Domain
from distreid.data.store import SCHEMA, SUMMARY_KEY, WRITING, ImageStore, StoreSummary, record_batch

BATCH = 256
"""Images a record batch, as in `distreid.data.packing`."""

FORMAT = "merged"
"""Of a store that was made here."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """``rows`` of a store, ascending, with their ``pids`` and ``camids`` (int64 [N] each) and ``splits`` (str [N])."""

    store: ImageStore
    rows: Integers
    pids: Integers
    camids: Integers
    splits: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.rows)


def whole(store: ImageStore) -> Part:
    """All of a store. Raises `UserError` for one with random splits, which cannot be kept."""
    if store.protocol.test_pids:
        raise UserError(
            f"{store.shown}: has random splits of its own; to be joined with other sets it needs 'split', which chooses the one "
            "whose training images are taken"
        )
    return Part(store, np.arange(len(store)), store.pids, store.camids, store.splits)


def selected(store: ImageStore, domain: Domain) -> Part:
    """What was selected of a store; of one with random splits, the training images alone."""
    splits = ("train",) if domain.protocol.test_pids else ("train", "query", "gallery")
    sides = [getattr(domain, split) for split in splits]
    rows, pids, camids = (np.concatenate([getattr(side, name) for side in sides]) for name in ("rows", "pids", "camids"))
    order = np.argsort(rows, kind="stable")
    names = np.repeat(splits, [len(side) for side in sides])
    return Part(store, rows[order], pids[order], camids[order], names[order])


def merge(parts: Sequence[Part], out: Path, *, given: str = "") -> StoreSummary:
    """Writes the file ``out``, which `ImageStore.open` reads: all images of ``parts``.

    Identities and cameras are numbered anew from 1, part by part; unknown ones (-1) stay so. A path begins with its part's place
    in the order and its store's name: ``1-market/query/…``. ``given`` is how messages name the file. Raises `UserError` if the
    file cannot be written.
    """
    pids, camids = _pids(parts), _renumbered([part.camids for part in parts])
    notes = [
        f"{number}-{part.store.name}: {plural(len(part), 'image')}, identities {_span(own_pids)}, cameras {_span(own_camids)}"
        for number, (part, own_pids, own_camids) in enumerate(zip(parts, pids, camids, strict=True), start=1)
    ]
    rows = [(k, row) for split in SPLITS for k, part in enumerate(parts) for row in np.flatnonzero(part.splits == split).tolist()]
    content = hashlib.sha256()
    with atomic_write(out) as file:
        writer = pa.ipc.new_file(file, SCHEMA, options=WRITING)
        for start in range(0, len(rows), BATCH):
            lines = [_line(parts[k], row, k, int(pids[k][row]), int(camids[k][row])) for k, row in rows[start : start + BATCH]]
            for image, _, pid, camid, split, *_ in lines:
                content.update(hashlib.sha256(image).digest() + struct.pack("<iib", pid, camid, SPLITS.index(split)))
            writer.write_batch(record_batch(list(map(list, zip(*lines, strict=True)))))
        name = "+".join(part.store.name for part in parts)
        summary = StoreSummary(name, FORMAT, content.hexdigest(), __version__, tuple(notes), given=given)
        writer.write_batch(record_batch([[] for _ in SCHEMA]), {SUMMARY_KEY: summary.to_json()})
        writer.close()
    return summary


def sets_of(store: ImageStore) -> Integers:
    """Which of the sets that were merged each row came from, from 0, int64 [N]; of any other store, all from one."""
    if store.format != FORMAT:
        return np.zeros(len(store), np.int64)
    return np.array([int(str(path).partition("-")[0]) - 1 for path in store.paths], dtype=np.int64)


def _pids(parts: Sequence[Part]) -> list[Integers]:
    """New pids. One number in training and in a test set may be two people (MSMT17): the two are kept apart, too."""
    sides = [side for part in parts for side in (part.splits == "train", part.splits != "train")]
    old = [parts[place // 2].pids[side] for place, side in enumerate(sides)]
    found = [np.empty(len(part), dtype=np.int64) for part in parts]
    for place, (side, new) in enumerate(zip(sides, _renumbered(old), strict=True)):
        found[place // 2][side] = new
    return found


def _renumbered(groups: Sequence[Integers]) -> list[Integers]:
    """Numbers from 1, other ones in each group; unknown ones stay."""
    found, last = [], 0
    for values in groups:
        known = np.unique(values[values != UNKNOWN])
        found.append(np.where(values == UNKNOWN, UNKNOWN, last + 1 + np.searchsorted(known, values)))
        last += len(known)
    return found


def _span(numbers: Integers) -> str:
    known = numbers[numbers != UNKNOWN]
    return f"{known.min()} to {known.max()}" if len(known) else "unknown"


def _line(part: Part, at: int, place: int, pid: int, camid: int) -> tuple[bytes, str, int, int, str, int, int]:
    store, row = part.store, part.rows[at]
    width, height = (int(side) for side in store.sizes_N2[row])
    path = f"{place + 1}-{store.name}/{store.paths[row]}"
    return bytes(store.encoded(row)), path, pid, camid, str(part.splits[at]), width, height

"""Several packed data sets as one: their people and cameras are kept apart, whatever their numbers were."""

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from distreid import __version__
from distreid.common.errors import UserError
from distreid.common.files import atomic_write
from distreid.common.text import plural
from distreid.data.records import SPLITS, UNKNOWN
from distreid.data.store import SCHEMA, SUMMARY_KEY, WRITING, ImageStore, StoreSummary, record_batch

BATCH = 256
"""Images a record batch, as in `distreid.data.packing`."""

Integers = npt.NDArray[np.int64]


def merge(stores: Sequence[ImageStore], out: Path, *, given: str = "") -> StoreSummary:
    """Writes the file ``out``, which `ImageStore.open` reads: all images of two or more ``stores``.

    Identities and cameras are numbered anew from 1, store by store; unknown ones (-1) stay so. A path begins with its store's place
    in the order and its name: ``1-market/query/…``. ``given`` is how messages name the file. Raises `UserError` for a store with
    random splits, which cannot be kept, and if the file cannot be written.
    """
    for store in stores:
        if store.protocol.test_pids:
            raise UserError(f"{store.shown}: has random splits of its own and cannot be joined with other sets")
    pids, camids = _pids(stores), _renumbered([store.camids for store in stores])
    notes = [
        f"{number}-{store.name}: {plural(len(store), 'image')}, identities {_span(own_pids)}, cameras {_span(own_camids)}"
        for number, (store, own_pids, own_camids) in enumerate(zip(stores, pids, camids, strict=True), start=1)
    ]
    rows = [
        (k, row) for split in SPLITS for k, store in enumerate(stores) for row in np.flatnonzero(store.splits == split).tolist()
    ]
    content = hashlib.sha256()
    with atomic_write(out) as file:
        writer = pa.ipc.new_file(file, SCHEMA, options=WRITING)
        for start in range(0, len(rows), BATCH):
            lines = [_line(stores[k], row, k, int(pids[k][row]), int(camids[k][row])) for k, row in rows[start : start + BATCH]]
            for image, _, pid, camid, split, *_ in lines:
                content.update(hashlib.sha256(image).digest() + struct.pack("<iib", pid, camid, SPLITS.index(split)))
            writer.write_batch(record_batch(list(map(list, zip(*lines, strict=True)))))
        name = "+".join(store.name for store in stores)
        summary = StoreSummary(name, "merged", content.hexdigest(), __version__, tuple(notes), given=given)
        writer.write_batch(record_batch([[] for _ in SCHEMA]), {SUMMARY_KEY: summary.to_json()})
        writer.close()
    return summary


def _pids(stores: Sequence[ImageStore]) -> list[Integers]:
    """New pids. One number in training and in a test set may be two people (MSMT17): the two are kept apart, too."""
    sides = [side for store in stores for side in (store.splits == "train", store.splits != "train")]
    old = [stores[place // 2].pids[side] for place, side in enumerate(sides)]
    found = [np.empty(len(store), dtype=np.int64) for store in stores]
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


def _line(store: ImageStore, row: int, place: int, pid: int, camid: int) -> tuple[bytes, str, int, int, str, int, int]:
    width, height = (int(side) for side in store.sizes_N2[row])
    path = f"{place + 1}-{store.name}/{store.paths[row]}"
    return bytes(store.encoded(row)), path, pid, camid, str(store.splits[row]), width, height

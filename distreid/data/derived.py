"""A packed data set with other pixels: the same people, cameras and splits, row by row."""

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from distreid import __version__
from distreid.common.files import atomic_write
from distreid.data.records import SPLITS
from distreid.data.store import SCHEMA, SUMMARY_KEY, WRITING, ImageStore, StoreSummary, record_batch


def derive(
    store: ImageStore, rows: npt.NDArray[np.int64], images: Iterable[bytes], out: Path, *, height: int, width: int, note: str
) -> StoreSummary:
    """Writes the file ``out``, which `ImageStore.open` reads: ``store``'s ``rows`` with ``images`` in place of their own.

    ``images`` are encoded files of ``height`` by ``width`` pixels, taken one by one. ``note`` says what was done to them.
    Raises `UserError` if the file cannot be written.
    """
    content = hashlib.sha256()
    with atomic_write(out) as file:
        writer = pa.ipc.new_file(file, SCHEMA, options=WRITING)
        for row, data in zip(rows, images, strict=True):
            pid, camid, split = int(store.pids[row]), int(store.camids[row]), str(store.splits[row])
            content.update(hashlib.sha256(data).digest() + struct.pack("<iib", pid, camid, SPLITS.index(split)))
            writer.write_batch(record_batch([[data], [str(store.paths[row])], [pid], [camid], [split], [width], [height]]))
        summary = StoreSummary(store.name, store.format, content.hexdigest(), __version__, (note,))
        writer.write_batch(record_batch([[] for _ in SCHEMA]), {SUMMARY_KEY: summary.to_json()})
        writer.close()
    return summary

"""From an image folder to one Arrow file: every image is decoded once to be sure of it, then stored as it was on disk."""

import hashlib
import io
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from distreid import __version__
from distreid.data.readers import read_dataset
from distreid.data.readers.files import plural, sample
from distreid.data.records import SPLITS, Dataset, Record
from distreid.data.store import SCHEMA, SUMMARY_KEY, ImageStore, StoreSummary
from distreid.errors import UserError
from distreid.files import atomic_write

BATCH = 256
"""Images a record batch: what is in memory at once (about 1 MB of crops)."""


@dataclass(frozen=True, slots=True)
class PackSummary:
    """What `pack` wrote; ``bad`` are the images left out, each with the reason."""

    path: Path
    name: str
    images: int
    size_bytes: int
    content_hash: str
    bad: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Checked:
    record: Record
    name: str
    data: bytes
    digest: bytes
    width: int
    height: int


def pack(
    src: Path | str,
    out: Path | str,
    *,
    format: str,
    skip_bad: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PackSummary:
    """Packs the data set in folder ``src`` into the file ``out``, which `ImageStore.open` reads.

    Every image is fully decoded, in ``workers`` threads (default: one a core). The file appears whole or not at all.
    Raises `UserError` for what the reader finds wrong, for images that cannot be decoded (unless ``skip_bad``), for an ``out`` that
    holds something else (unless ``overwrite``) and when the disk is full.
    """
    out = Path(out)
    dataset = read_dataset(src, format)
    if out.is_file() and not overwrite:
        _existing_hash(out)
    with atomic_write(out) as file:
        summary, bad = _write(file, dataset, skip_bad, workers or os.cpu_count() or 1, progress)
        if out.is_file() and not overwrite and _existing_hash(out) != summary.content_hash:
            raise UserError(f"{out}: already holds another data set; choose another name or remove the file first")
    images = len(dataset.records) - len(bad)
    return PackSummary(out, summary.name, images, out.stat().st_size, summary.content_hash, bad, summary.notes)


def _existing_hash(out: Path) -> str:
    """Of the store at ``out``. A file that is none is never overwritten by accident."""
    try:
        return ImageStore.open(out).content_hash
    except UserError:
        raise UserError(f"{out}: exists and is not a packed data set; choose another name or remove the file first") from None


@dataclass(slots=True)
class _Copies:
    """Images that are byte for byte another one, and how many of those carry another identity."""

    pids: dict[bytes, int] = field(default_factory=dict)
    found: int = 0
    conflicting: int = 0

    def add(self, digest: bytes, pid: int) -> None:
        if digest in self.pids:
            self.found += 1
            self.conflicting += self.pids[digest] != pid
        else:
            self.pids[digest] = pid

    def notes(self) -> tuple[str, ...]:
        if not self.found:
            return ()
        conflict = f", {self.conflicting:,} of them with another identity" if self.conflicting else ""
        return (f"{plural(self.found, 'image')} byte for byte the same as another{conflict}",)


def _write(
    file: BinaryIO, dataset: Dataset, skip_bad: bool, workers: int, progress: Callable[[int, int], None] | None
) -> tuple[StoreSummary, tuple[str, ...]]:
    """Writes all good images and, last, the summary. After the first bad one it goes on only to find the others."""
    content, copies = hashlib.sha256(), _Copies()
    bad: list[str] = []
    done, total = 0, len(dataset.records)
    writer = pa.ipc.new_file(file, SCHEMA)
    with ThreadPoolExecutor(workers, thread_name_prefix="pack") as threads:
        for records in _batches(dataset.records):
            good: list[_Checked] = []
            for record, result in zip(records, threads.map(partial(_check, root=dataset.root), records), strict=True):
                if isinstance(result, str):
                    bad.append(f"{_name(record, dataset.root)} ({result})")
                    continue
                good.append(result)
                copies.add(result.digest, record.pid)
                content.update(result.digest + struct.pack("<iib", record.pid, record.camid, SPLITS.index(record.split)))
            if skip_bad or not bad:
                writer.write_batch(_to_arrow(good))
            done += len(records)
            if progress is not None:
                progress(done, total)
    _judge(bad, dataset, skip_bad)
    left_out = (f"{plural(len(bad), 'bad image')} left out: {sample(bad)}",) if bad else ()
    summary = StoreSummary(
        dataset.name, dataset.format, content.hexdigest(), __version__, dataset.notes + left_out + copies.notes()
    )
    writer.write_batch(_to_arrow([]), {SUMMARY_KEY: summary.to_json()})
    writer.close()
    return summary, tuple(bad)


def _judge(bad: list[str], dataset: Dataset, skip_bad: bool) -> None:
    total = len(dataset.records)
    if bad and not skip_bad:
        raise UserError(
            f"{dataset.root}: {len(bad):,} of {plural(total, 'image')} cannot be decoded: {sample(bad)}; "
            "replace them, or leave them out with --skip-bad"
        )
    if len(bad) == total:
        raise UserError(f"{dataset.root}: not one of {plural(total, 'image')} can be decoded: {sample(bad)}")


def _batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for start in range(0, len(records), BATCH):
        yield records[start : start + BATCH]


def _name(record: Record, root: Path) -> str:
    """The path below the root; bytes that are no UTF-8 show as escapes."""
    return record.path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()


def _check(record: Record, root: Path) -> _Checked | str:
    """Reads and fully decodes one image; the reason, in words, if that fails."""
    try:
        data = record.path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not data:
        return "empty file"
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
    except UnidentifiedImageError:
        return "not an image"
    except Exception as error:  # decoders of hostile or broken files raise about anything
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    digest = hashlib.sha256(data).digest()
    return _Checked(record, _name(record, root), data, digest, image.width, image.height)


def _to_arrow(rows: Sequence[_Checked]) -> pa.RecordBatch:
    columns = [
        [row.data for row in rows],
        [row.name for row in rows],
        [row.record.pid for row in rows],
        [row.record.camid for row in rows],
        [row.record.split for row in rows],
        [row.width for row in rows],
        [row.height for row in rows],
    ]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)

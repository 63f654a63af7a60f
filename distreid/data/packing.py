"""From an image folder to one Arrow file: every image is decoded once to be sure of it, then stored as it was on disk.

A pack that was interrupted, or that found bad images, leaves a list of the images that it decoded beside its output (see
`decode_cache`): the next one reads their bytes again but does not decode them again, and ends with the same file.
"""

import glob
import hashlib
import io
import os
import shlex
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from distreid import __version__
from distreid.common.errors import UserError
from distreid.common.files import atomic_write
from distreid.common.text import plural
from distreid.data.decode_cache import DecodeCache
from distreid.data.holdout import forget_cameras, hold_out
from distreid.data.readers import read_dataset
from distreid.data.readers.files import TABLE_SUFFIXES, sample
from distreid.data.records import SPLITS, Dataset, Record
from distreid.data.store import SCHEMA, SUMMARY_KEY, WRITING, ImageStore, StoreSummary, record_batch, upright

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
    pattern: str = "",
    holdout: int | None = None,
    seed: int = 0,
    no_cameras: bool = False,
    skip_bad: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    given: str = "",
) -> PackSummary:
    """Packs the data set in folder (or of the table) ``src`` into the file ``out``, which `ImageStore.open` reads.

    ``format`` and ``pattern`` say how it is read (see `read_dataset`). ``holdout`` makes so many training identities, drawn by
    ``seed``, a test set of a set that has none; ``no_cameras`` makes every camera unknown.
    Every image is fully decoded, in ``workers`` threads (default: one a core). The file appears whole or not at all; after an
    interruption, call again to go on. ``given`` is how messages are to name the file (default: by its path). Raises `UserError` for
    what the reader finds wrong, for images that cannot be decoded (unless ``skip_bad``), for an ``out`` that holds something else
    (unless ``overwrite``) and when the disk is full.
    """
    out = Path(out)
    how = f"--format {format}" + (f" --pattern {shlex.quote(pattern)}" if pattern else "")
    again = f"distreid pack {shlex.quote(str(src))} OUT.arrow {how} --skip-bad"
    if out.suffix.lower() in TABLE_SUFFIXES:
        raise UserError(f"{out}: would be read as a table again; name the packed file NAME.arrow")
    dataset = read_dataset(src, format, pattern)
    if no_cameras:
        dataset = forget_cameras(dataset, str(src))
    if holdout is not None:
        dataset = hold_out(dataset, holdout, seed, str(src))
    if out.is_file() and not overwrite:
        _existing_hash(out)
    _sweep(out)
    decoded = DecodeCache(out)
    with atomic_write(out) as file:
        summary, bad = _write(file, dataset, decoded, "" if skip_bad else again, workers or os.cpu_count() or 1, progress, given)
        if out.is_file() and not overwrite and _existing_hash(out) != summary.content_hash:
            raise UserError(f"{out}: already holds another data set; choose another name or remove the file first")
    decoded.forget()
    images = len(dataset.records) - len(bad)
    return PackSummary(out, summary.name, images, out.stat().st_size, summary.content_hash, bad, summary.notes)


def _sweep(out: Path) -> None:
    """Removes what killed packs left half-written beside ``out``; one that is still at work has written in the last ten minutes."""
    for path in out.parent.glob(f".{glob.escape(out.name)}.*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > 600:
                path.unlink()


def _existing_hash(out: Path) -> str:
    """Of the store at ``out``. A file that is none is never overwritten by accident."""
    try:
        return ImageStore.open(out).content_hash
    except UserError:
        raise UserError(f"{out}: exists and is not a packed data set; choose another name or remove the file first") from None


@dataclass(slots=True)
class _Copies:
    """Images that are byte for byte another one; how many of them carry another identity, or are both trained and tested on."""

    first: dict[bytes, Record] = field(default_factory=dict)
    found: int = 0
    conflicting: int = 0
    leaking: int = 0

    def add(self, digest: bytes, record: Record) -> None:
        first = self.first.setdefault(digest, record)
        if first is record:
            return
        self.found += 1
        if (first.split == "train") != (record.split == "train"):
            self.leaking += 1
        else:  # the two sides may number different people alike (MSMT17)
            self.conflicting += first.pid != record.pid

    def notes(self) -> tuple[str, ...]:
        if not self.found:
            return ()
        warning = "warning: " if self.conflicting or self.leaking else ""
        conflict = f", {self.conflicting:,} of them with another identity" if self.conflicting else ""
        leak = f", {self.leaking:,} of them both trained and tested on" if self.leaking else ""
        return (f"{warning}{plural(self.found, 'image')} byte for byte the same as another{conflict}{leak}",)


def _write(
    file: BinaryIO,
    dataset: Dataset,
    decoded: DecodeCache,
    again: str,
    workers: int,
    progress: Callable[[int, int], None] | None,
    given: str,
) -> tuple[StoreSummary, tuple[str, ...]]:
    """Writes all good images and, last, the summary. After the first bad one it goes on only to find the others.

    ``again`` is the command that leaves bad ones out; empty: this is it.
    """
    content, copies = hashlib.sha256(), _Copies()
    bad: list[str] = []
    done, total = 0, len(dataset.records)
    writer = pa.ipc.new_file(file, SCHEMA, options=WRITING)
    check = partial(_check, dataset=dataset, decoded=decoded)
    with ThreadPoolExecutor(workers, thread_name_prefix="pack") as threads:
        for records in _batches(dataset.records):
            good: list[_Checked] = []
            for record, result in zip(records, threads.map(check, records), strict=True):
                if isinstance(result, str):
                    bad.append(f"{_name(record, dataset.root)} ({result})")
                    continue
                good.append(result)
                copies.add(result.digest, record)
                content.update(result.digest + struct.pack("<iib", record.pid, record.camid, SPLITS.index(record.split)))
            decoded.add((image.digest, image.width, image.height) for image in good)
            if not again or not bad:
                writer.write_batch(_to_arrow(good))
            done += len(records)
            if progress is not None:
                progress(done, total)
    _judge(bad, dataset, again)
    if dataset.protocol.test_pids:
        content.update(repr(dataset.protocol.test_pids).encode())
    left_out = (f"{plural(len(bad), 'bad image')} left out: {sample(bad)}",) if bad else ()
    notes = dataset.notes + left_out + copies.notes()
    summary = StoreSummary(dataset.name, dataset.format, content.hexdigest(), __version__, notes, dataset.protocol, given)
    writer.write_batch(_to_arrow([]), {SUMMARY_KEY: summary.to_json()})
    writer.close()
    return summary, tuple(bad)


def _judge(bad: list[str], dataset: Dataset, again: str) -> None:
    total = len(dataset.records)
    if bad and again:
        raise UserError(
            f"{dataset.root}: {len(bad):,} of {plural(total, 'image')} cannot be decoded: {sample(bad)}; "
            f"replace them, or leave them out with: {again}"
        )
    if len(bad) == total:
        raise UserError(f"{dataset.root}: not one of {plural(total, 'image')} can be decoded: {sample(bad)}")


def _batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for start in range(0, len(records), BATCH):
        yield records[start : start + BATCH]


def _name(record: Record, root: Path) -> str:
    """The path below the root; bytes that are no UTF-8 show as escapes."""
    return record.path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()


def _check(record: Record, dataset: Dataset, decoded: DecodeCache) -> _Checked | str:
    """Reads one image and, unless an earlier pack did, fully decodes it; the reason, in words, if that fails."""
    name = _name(record, dataset.root)
    if dataset.pixels is not None:
        return _check_pixels(record, name, dataset.pixels)
    try:
        data = record.path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not data:
        return "empty file"
    digest = hashlib.sha256(data).digest()
    size = decoded.size(digest)
    if size is None:
        try:
            size = upright(Image.open(io.BytesIO(data))).size
        except UnidentifiedImageError:
            return "not an image"
        except Exception as error:  # decoders of hostile or broken files raise about anything
            return str(error).splitlines()[0] if str(error) else type(error).__name__
    return _Checked(record, name, data, digest, *size)


def _check_pixels(record: Record, name: str, pixels: Callable[[Record], npt.NDArray[np.uint8]]) -> _Checked | str:
    """An image that is no file of its own is stored as PNG, without loss; its digest is that of the pixels, on every machine."""
    try:
        image_HWC = np.ascontiguousarray(pixels(record))
    except Exception as error:  # as above
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    encoded = io.BytesIO()
    Image.fromarray(image_HWC).save(encoded, format="PNG", compress_level=1)
    height, width, _ = image_HWC.shape
    digest = hashlib.sha256(struct.pack("<ii", height, width) + image_HWC.tobytes()).digest()
    return _Checked(record, name, encoded.getvalue(), digest, width, height)


def _to_arrow(rows: Sequence[_Checked]) -> pa.RecordBatch:
    columns: list[list[object]] = [
        [row.data for row in rows],
        [row.name for row in rows],
        [row.record.pid for row in rows],
        [row.record.camid for row in rows],
        [row.record.split for row in rows],
        [row.width for row in rows],
        [row.height for row in rows],
    ]
    return record_batch(columns)

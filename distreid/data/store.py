"""The packed data set: one Arrow IPC file, memory-mapped, so that all processes of a node share its pages.

Each row is an image: its encoded bytes as they were on disk, its path below the data set's root, pid, camid, split, width, height.
What is only known when all images have been read (the content hash, the notes) rides on a last, empty record batch.
"""

import io
import json
import os
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from distreid.common.errors import UserError
from distreid.common.storage import is_uri, local_copy
from distreid.data.readers.files import TABLE_SUFFIXES
from distreid.data.records import SINGLE_QUERY, Protocol

SCHEMA = pa.schema(
    [
        ("image", pa.large_binary()),
        ("path", pa.string()),
        ("pid", pa.int32()),
        ("camid", pa.int32()),
        ("split", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ],
    metadata={"distreid": "image store 1"},
)
SUMMARY_KEY = b"summary"
WRITING = pa.ipc.IpcWriteOptions(compression=None)  # encoded images do not shrink, and are used from the mapped file as they are
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """What a store says about itself.

    ``content_hash`` is sha256 over every row's image bytes (its pixels, where it was no file of its own), pid, camid and split, in
    order, and over the random splits of a protocol that has them.
    """

    name: str
    format: str
    content_hash: str
    version: str
    notes: tuple[str, ...]
    protocol: Protocol = SINGLE_QUERY
    given: str = ""
    """The folder that a user named, where the file is a copy of it in the cache."""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "StoreSummary":
        fields = json.loads(text)
        # Files packed before there were protocols are tested by single queries.
        protocol = Protocol.from_fields(fields["protocol"]) if "protocol" in fields else SINGLE_QUERY
        return cls(**{**fields, "notes": tuple(fields["notes"]), "protocol": protocol})


class ImageStore:
    """A packed data set, opened for reading.

    ``paths`` and ``splits`` are str arrays [N], ``pids`` and ``camids`` int64 [N], ``sizes_N2`` int32 width and height in pixels.
    Rows are ordered by split (train, query, gallery, spare, test) and path. Sending a store to another process sends its path and
    settings only: each process maps the file itself. Make one with `ImageStore.open`.
    """

    def __init__(self, path: Path, table: pa.Table, summary: StoreSummary, threads: int, interpolation: str) -> None:
        self.path = path
        self.summary = summary
        self.threads = threads
        self.interpolation = interpolation
        self.paths = _strings(table["path"])
        self.splits = _strings(table["split"])
        self.pids = _integers(table["pid"])
        self.camids = _integers(table["camid"])
        self.sizes_N2 = np.stack([table["width"].to_numpy(), table["height"].to_numpy()], axis=1)
        self._images = table["image"]
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    @classmethod
    def open(cls, path: Path | str, *, threads: int = 1, interpolation: str = "bilinear") -> "ImageStore":
        """Maps a file that `pack` wrote, or a copy on this machine of one at a URI. Raises `UserError` if it is missing, cut
        short or something else.

        ``threads`` decode in `read` and change its speed only; ``interpolation``, one of `INTERPOLATIONS`, is how it resizes.
        """
        path = local_copy(str(path)) if is_uri(path) else Path(path)
        if interpolation not in INTERPOLATIONS:
            raise UserError(f"unknown interpolation '{interpolation}'; choose one of {', '.join(INTERPOLATIONS)}")
        quoted, named = shlex.quote(str(path)), shlex.quote(f"{path.stem if path.is_file() else path.name}.arrow")
        if path.is_dir():
            raise UserError(f"{path}: a folder, not a packed file; pack it: distreid pack {quoted} {named} --format FORMAT")
        if path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
            raise UserError(f"{path}: a table, not a packed file; pack it: distreid pack {quoted} {named} --format table")
        if not path.is_file():
            raise UserError(f"{path}: no such file; make it with: distreid pack SRC {quoted} --format FORMAT")
        try:
            table, summary = _read(path)
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: not a packed data set, or cut short ({reason}); pack it again") from None
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path}: an Arrow file, but not one of distreid's; give a file that `distreid pack` wrote") from None
        return cls(path, table, summary, threads, interpolation)

    def __len__(self) -> int:
        return len(self.pids)

    def __reduce__(self) -> tuple[Callable[..., "ImageStore"], tuple[Path, int, str]]:
        return _reopen, (self.path, self.threads, self.interpolation)

    @property
    def name(self) -> str:
        return self.summary.name

    @property
    def shown(self) -> str:
        """What the user named, for messages."""
        return self.summary.given or str(self.path)

    @property
    def format(self) -> str:
        return self.summary.format

    @property
    def content_hash(self) -> str:
        return self.summary.content_hash

    @property
    def protocol(self) -> Protocol:
        return self.summary.protocol

    def encoded(self, row: int | np.integer[Any]) -> memoryview:
        """The image file as it was packed, without a copy."""
        return memoryview(self._images[int(row)].as_buffer())

    def decode(self, row: int | np.integer[Any]) -> Image.Image:
        """The image in RGB, in its own size."""
        try:
            return upright(Image.open(io.BytesIO(self.encoded(row))))
        except OSError as error:
            raise UserError(f"{self.shown}: image {self.paths[row]} is damaged ({error}); pack the data set again") from None

    def read(self, rows: Sequence[int] | npt.NDArray[np.integer[Any]], height: int, width: int) -> Tensor:
        """Decodes rows and resizes them to a uint8 RGB tensor [B, 3, height, width], in memory as `blank_images` lays it out.

        Shrinking averages over the pixels covered (antialiasing).
        """
        images_BCHW = blank_images(len(rows), height, width)

        def fill(position: int) -> None:
            image_1CHW = torch.from_numpy(np.array(self.decode(rows[position]))).permute(2, 0, 1)[None]
            if image_1CHW.shape[2:] != (height, width):
                # Pillow's resize up to rounding, several times faster.
                image_1CHW = interpolate(image_1CHW, (height, width), mode=self.interpolation, align_corners=False, antialias=True)
            images_BCHW[position] = image_1CHW[0]

        positions = range(len(rows))
        for _ in map(fill, positions) if self.threads == 1 else self._executor().map(fill, positions):
            pass
        return images_BCHW

    def _executor(self) -> ThreadPoolExecutor:
        """The pool of this process: threads do not survive a fork."""
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = (os.getpid(), ThreadPoolExecutor(self.threads, thread_name_prefix="decode"))
        return self._pool[1]


def blank_images(count: int, height: int, width: int) -> Tensor:
    """Room for uint8 RGB images [count, 3, height, width], whose pixels' three values lie side by side, as decoders have them."""
    return torch.empty((count, 3, height, width), dtype=torch.uint8, memory_format=torch.channels_last)


def upright(image: Image.Image) -> Image.Image:
    """Decoded, in RGB, and turned as its EXIF orientation says: cameras store what they see and a note how they were held."""
    image.load()  # a damaged image is an error, a damaged note beside it is none
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def record_batch(columns: Sequence[Sequence[object]]) -> pa.RecordBatch:
    """Rows of a store, as one list for each column of `SCHEMA`."""
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _reopen(path: Path, threads: int, interpolation: str) -> ImageStore:
    return ImageStore.open(path, threads=threads, interpolation=interpolation)


def _read(path: Path) -> tuple[pa.Table, StoreSummary]:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    if reader.schema.metadata != SCHEMA.metadata or reader.schema.names != SCHEMA.names:
        raise ValueError(f"{path}: another schema")
    _, metadata = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
    table = reader.read_all()
    table.validate(full=True)
    return table, StoreSummary.from_json(metadata[SUMMARY_KEY])


def _strings(column: pa.ChunkedArray) -> npt.NDArray[np.str_]:
    return np.asarray(column.to_pylist(), dtype=np.str_)


def _integers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return column.to_numpy().astype(np.int64)

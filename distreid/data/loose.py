"""Image files that belong to no data set: in memory, as if they had been packed."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from distreid import __version__
from distreid.common.errors import UserError
from distreid.data.readers.files import IMAGE_SUFFIXES, by_path, is_image, no_image, walk_files
from distreid.data.records import UNKNOWN
from distreid.data.store import ImageStore, StoreSummary, record_batch, upright


def open_images(place: str, *, threads: int = 1) -> ImageStore:
    """An image, or all images below a folder, as a store of split "query"; rows are named by their paths as given.

    ``threads`` decode them when they are read.

    Raises `UserError`, naming the file, where nothing is there, the folder holds no image, or a file is none.
    """
    path = Path(place)
    if path.is_dir():
        found = list(walk_files(path))
        files = by_path(file for file in found if is_image(file.name))
        if not files:
            raise no_image(path, [file.name for file in found])
    elif not path.exists():
        raise UserError(f"{place}: no such image or folder; check the path")
    elif not is_image(path.name):
        raise UserError(f"{place}: no image by its ending; expected {', '.join(sorted(IMAGE_SUFFIXES))}, or a folder of such")
    else:
        files = [path]
    images = [(file, *_checked(file)) for file in files]
    columns: list[list[Any]] = [
        [data for _, data, _ in images],
        [str(file) for file, _, _ in images],
        [UNKNOWN] * len(images),
        [UNKNOWN] * len(images),
        ["query"] * len(images),
        [width for _, _, (width, _) in images],
        [height for _, _, (_, height) in images],
    ]
    table = pa.Table.from_batches([record_batch(columns)])
    content = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for _, data, _ in images)).hexdigest()
    summary = StoreSummary(path.name, "folder", content, __version__, (), given=place)
    return ImageStore(path, table, summary, threads, interpolation="bilinear")


def _checked(file: Path) -> tuple[bytes, tuple[int, int]]:
    """The file's bytes, and the size of the image, which is decoded to be sure of it."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    try:
        return data, upright(Image.open(io.BytesIO(data))).size
    except Exception:  # decoders of hostile or broken files raise about anything
        raise UserError(f"{file}: not an image, or a damaged one; leave it out or fetch it again") from None

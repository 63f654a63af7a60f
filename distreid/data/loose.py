"""Image files that belong to no data set: in memory, as if they had been packed."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from PIL import Image

from distreid import __version__
from distreid.common.errors import UserError
from distreid.data.readers.files import IMAGE_SUFFIXES, by_path, is_image, walk_files
from distreid.data.records import UNKNOWN
from distreid.data.store import SCHEMA, ImageStore, StoreSummary, upright


def open_images(places: Sequence[Path | str], *, threads: int = 1) -> ImageStore:
    """Images, and all images below folders, as a store of split "query" whose rows are named by their paths as given.

    Raises `UserError`, naming the file, where a place is not there, holds no image, or is none.
    """
    files: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            found = by_path(file for file in walk_files(place) if is_image(file.name))
            if not found:
                raise UserError(f"{place}: no image in it or below it; check the path")
            files += found
        elif not place.exists():
            raise UserError(f"{place}: no such image or folder; check the path")
        elif not is_image(place.name):
            raise UserError(f"{place}: not an image by its ending; expected {', '.join(sorted(IMAGE_SUFFIXES))}")
        else:
            files.append(place)
    images = [(file, *_checked(file)) for file in files]
    columns = [
        [data for _, data, _ in images],
        [str(file) for file, _, _ in images],
        [UNKNOWN] * len(images),
        [UNKNOWN] * len(images),
        ["query"] * len(images),
        [width for _, _, (width, _) in images],
        [height for _, _, (_, height) in images],
    ]
    table = pa.Table.from_arrays([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
    content = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for _, data, _ in images)).hexdigest()
    shown = ", ".join(map(str, places))
    return ImageStore(Path(places[0]), table, StoreSummary(shown, "folder", content, __version__, (), given=shown), threads, "bilinear")


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

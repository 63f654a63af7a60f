"""What a packed data set holds: counts for people, and a sheet of its images."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from distreid.common.errors import UserError
from distreid.common.files import atomic_write
from distreid.common.text import text_table
from distreid.data.records import DISTRACTOR, SPLITS, UNKNOWN
from distreid.data.store import ImageStore

Integers = npt.NDArray[np.int64]

CELL_WIDTH, CELL_HEIGHT, MARGIN, CAPTION = 64, 128, 4, 14
"""Pixels of a contact sheet."""


def describe(store: ImageStore) -> dict[str, Any]:
    """The store's counts and labels, ready for JSON; identities and cameras count known ones only, and no distractors."""
    return {
        "file": str(store.path),
        "name": store.name,
        "format": store.format,
        "images": len(store),
        "bytes": store.path.stat().st_size,
        "content_hash": store.content_hash,
        "packed_by": f"distreid {store.summary.version}",
        "width": _spread(store.sizes_N2[:, 0]),
        "height": _spread(store.sizes_N2[:, 1]),
        "splits": {split: _describe_split(store, split) for split in SPLITS if (store.splits == split).any()},
        "protocol": {"name": store.protocol.name, "splits": len(store.protocol.test_pids)},
        "notes": list(store.summary.notes),
    }


def _spread(pixels_N: npt.NDArray[np.int32]) -> dict[str, int]:
    return {"min": int(pixels_N.min()), "median": int(np.median(pixels_N)), "max": int(pixels_N.max())}


def _describe_split(store: ImageStore, split: str) -> dict[str, Any]:
    mask = store.splits == split
    # Elsewhere pid 0 is a person like any other.
    nobody = (UNKNOWN, DISTRACTOR) if store.format == "market1501" else (UNKNOWN,)
    pids, (camids, counts) = np.unique(store.pids[mask]), np.unique(store.camids[mask], return_counts=True)
    return {
        "images": int(mask.sum()),
        "identities": int((~np.isin(pids, nobody)).sum()),
        "cameras": {int(camid): int(count) for camid, count in zip(camids, counts, strict=True) if camid != UNKNOWN},
    }


def format_description(description: dict[str, Any]) -> str:
    """`describe`'s answer as a table of splits by cameras, with the notes below."""
    splits = description["splits"]
    cameras = sorted({camid for split in splits.values() for camid in split["cameras"]})
    rows = []
    for name, split in splits.items():
        per_camera = [f"{split['cameras'].get(camid, 0):,}" for camid in cameras]
        rows.append([name, f"{split['images']:,}", f"{split['identities']:,}" if split["identities"] else "unknown", *per_camera])
    head = ["", "images", "identities", *(f"camera {camid}" for camid in cameras)]
    width, height = (
        " to ".join(str(pixels) for pixels in sorted({side["min"], side["max"]}))
        for side in (description["width"], description["height"])
    )
    lines = [
        f"{description['name']} (format {description['format']}): {description['images']:,} images of "
        f"{width} by {height} pixels (width by height), {description['bytes'] / 1e6:,.1f} MB",
        text_table(head, rows, left=(), rule=False),
        *(f"- {note}" for note in description["notes"]),
        f"sha256 {description['content_hash']}, packed by {description['packed_by']}",
    ]
    return "\n".join(lines)


def contact_sheet(store: ImageStore, out_png: Path | str, *, rows: int = 12, columns: int = 12) -> None:
    """Draws a sheet of training images, or of all if none is for training: one identity a row, its images by camera.

    The identities, or without them the images, are spread over the set. Raises `UserError` if ``out_png`` does not end in .png
    or cannot be written.
    """
    if Path(out_png).suffix.lower() != ".png":
        raise UserError(f"{out_png}: a contact sheet is written to a NAME.png")
    # Train and test may number different people alike (MSMT17), so the two are never mixed in a row.
    shown = np.flatnonzero(store.splits == "train")
    if not len(shown):
        shown = np.arange(len(store))
    known = shown[store.pids[shown] != UNKNOWN]
    lines = _by_identity(store, known, rows, columns) if len(known) else _in_lines(_spread_over(shown, rows * columns), columns)
    step_x, step_y = CELL_WIDTH + MARGIN, CELL_HEIGHT + CAPTION
    sheet = Image.new("RGB", (MARGIN + columns * step_x, MARGIN + len(lines) * step_y), "white")
    draw = ImageDraw.Draw(sheet)
    for down, line in enumerate(lines):
        for across, row in enumerate(line):
            x, y = MARGIN + across * step_x, MARGIN + down * step_y
            sheet.paste(store.decode(row).resize((CELL_WIDTH, CELL_HEIGHT), Image.Resampling.BICUBIC), (x, y))
            draw.text((x, y + CELL_HEIGHT), _caption(store, row), fill="black")
    with atomic_write(Path(out_png)) as file:
        sheet.save(file, format="PNG")


def _by_identity(store: ImageStore, shown: Integers, rows: int, columns: int) -> list[Integers]:
    lines = []
    for pid in _spread_over(np.unique(store.pids[shown]), rows):
        own = shown[store.pids[shown] == pid]
        lines.append(_spread_over(own[np.argsort(store.camids[own], kind="stable")], columns))
    return lines


def _in_lines(rows: Integers, columns: int) -> list[Integers]:
    return [rows[start : start + columns] for start in range(0, len(rows), columns)]


def _spread_over(values: Integers, count: int) -> Integers:
    """``count`` of the values at even steps, or all if there are fewer."""
    count = min(count, len(values))
    return values[np.arange(count) * len(values) // count]


def _caption(store: ImageStore, row: int) -> str:
    pid, camid = store.pids[row], store.camids[row]
    return " ".join(text for text, value in ((f"{pid:04d}", pid), (f"c{camid}", camid)) if value != UNKNOWN)

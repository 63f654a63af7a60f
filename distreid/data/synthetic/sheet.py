"""A picture of many pictures, to look at what was drawn."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from PIL import Image

from distreid.common.errors import UserError
from distreid.common.files import atomic_write

_GAP = 4  # pixels between images


def contact_sheet(
    root: Path, out_png: Path, *, folder: str = "bounding_box_train", identities: int = 10, images: int = 12, zoom: int = 1
) -> None:
    """Write a PNG of the first `identities` people of `root`/`folder`: a row each, `images` spread evenly over their cameras.

    `root` is a folder in Market-1501's layout. UserError where it holds no such images.
    """
    rows: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((Path(root) / folder).glob("*.jpg")):
        rows[path.name.split("_")[0]].append(path)
    chosen = list(rows.values())[:identities]
    if not chosen:
        raise UserError(f"{Path(root) / folder} holds no images: give a folder in Market-1501's layout")
    with Image.open(chosen[0][0]) as first:
        wide, high = first.width * zoom, first.height * zoom
    sheet = Image.new("RGB", (images * (wide + _GAP) + _GAP, len(chosen) * (high + _GAP) + _GAP), (255, 255, 255))
    for r, paths in enumerate(chosen):
        shown = min(images, len(paths))
        for c in range(shown):
            with Image.open(paths[c * len(paths) // shown]) as image:
                tile = image.convert("RGB").resize((wide, high), Image.Resampling.LANCZOS)
            sheet.paste(tile, (_GAP + c * (wide + _GAP), _GAP + r * (high + _GAP)))
    with atomic_write(Path(out_png)) as file:
        sheet.save(file, "PNG")

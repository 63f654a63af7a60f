"""Draws docs/picture.png, the README's picture, from synthetic people: `python docs/picture.py` (needs DejaVu's fonts)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from distreid.data.synthetic import draw_domain

CROP, GAP, FRAME = (64, 128), 12, 4
COLOURS = ("#d1495b", "#00798c", "#edae49", "#66a182")
INK, QUIET, PAPER = "#1f2933", "#9aa5b1", "#ffffff"
PEOPLE, VIEWS = 3, 3


def crops(folder: Path, domain: str, seed: int) -> list[list[Image.Image]]:
    """For each of the first people some views, from as many cameras as there are."""
    draw_domain(folder, domain=domain, identities=PEOPLE + 1, cameras=4, images=2, seed=seed)
    files = sorted((folder / "bounding_box_train").iterdir())
    rows = [[file for file in files if file.name.startswith(f"{person:04}_")][::2] for person in range(1, PEOPLE + 2)]
    full = [row for row in rows if len(row) >= VIEWS][:PEOPLE]
    return [[Image.open(file).convert("RGB").resize(CROP, Image.Resampling.BICUBIC) for file in row[:VIEWS]] for row in full]


def panel(picture: Image.Image, left: int, title: str, note: str, grid: list[list[tuple[Image.Image, str, str]]]) -> None:
    """Rows of (image, colour of its frame, its label) below a title."""
    draw = ImageDraw.Draw(picture)
    fonts = [ImageFont.truetype(f"DejaVuSans{style}.ttf", size) for style, size in (("-Bold", 19), ("", 15), ("-Bold", 13))]
    draw.text((left, 14), title, INK, fonts[0])
    draw.text((left, 42), note, INK, fonts[1])
    for row, line in enumerate(grid):
        for column, (image, colour, label) in enumerate(line):
            x, y = left + column * (CROP[0] + GAP + 2 * FRAME), 76 + row * (CROP[1] + GAP + 2 * FRAME)
            draw.rounded_rectangle((x, y, x + CROP[0] + 2 * FRAME - 1, y + CROP[1] + 2 * FRAME - 1), 5, fill=colour)
            picture.paste(image, (x + FRAME, y + FRAME))
            draw.rounded_rectangle((x, y, x + 22, y + 20), 5, fill=colour)
            draw.text((x + 11, y + 10), label, PAPER, fonts[2], anchor="mm")


def arrow(picture: Image.Image, left: int, text: str) -> None:
    draw, y = ImageDraw.Draw(picture), picture.height // 2 + 20
    draw.line((left, y, left + 76, y), QUIET, 5)
    draw.polygon([(left + 92, y), (left + 72, y - 11), (left + 72, y + 11)], QUIET)
    font = ImageFont.truetype("DejaVuSans.ttf", 14)
    draw.multiline_text((left + 44, y - 22), text, INK, font, anchor="md", align="center", spacing=3)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        day, night = crops(Path(folder, "day"), "day", 3), crops(Path(folder, "night"), "night", 4)
    width = VIEWS * (CROP[0] + GAP + 2 * FRAME) - GAP
    picture = Image.new("RGB", (3 * width + 2 * 116 + 40, 76 + PEOPLE * (CROP[1] + GAP + 2 * FRAME) + 8), PAPER)
    labelled = [[(image, COLOURS[row], "ABC"[row]) for image in line] for row, line in enumerate(day)]
    shuffled = [[(night[(row + 2 * column) % PEOPLE][column], QUIET, "?") for column in range(VIEWS)] for row in range(PEOPLE)]
    clustered = [[(image, COLOURS[row], "123"[row]) for image in line] for row, line in enumerate(night)]
    panel(picture, 20, "Cameras with labels", "who is who is known", labelled)
    panel(picture, 20 + width + 116, "New cameras", "nobody is labelled", shuffled)
    panel(picture, 20 + 2 * (width + 116), "Pseudo-labels", "made anew each round", clustered)
    arrow(picture, 20 + width + 12, "train,\nthen apply")
    arrow(picture, 20 + 2 * width + 116 + 12, "cluster,\ntrain again")
    picture.quantize(128).save(Path(__file__).with_name("picture.png"), optimize=True)


if __name__ == "__main__":
    main()

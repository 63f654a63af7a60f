"""What a search by image found: as JSON, for the terminal, and as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distreid.common.text import number, plural, text_table
from distreid.report.html import write_page
from distreid.report.images import picture
from distreid.report.parts import Cell, Column, Figure, Page, Section, Strip

TABLES = 3  # queries whose rank lists the terminal shows whole


@dataclass(frozen=True, eq=False)
class Shown:
    """An image, named as its data set has it. camid: -1 unknown. pixels_HW3: uint8 RGB, where a page is wanted."""

    path: str
    camid: int = -1
    pixels_HW3: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class Ranked:
    """A query, the first images of its ranking with their cosine similarities, and the copies of itself that were left out."""

    query: Shown
    matches: Sequence[tuple[Shown, float]]
    left_out: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Search:
    """gallery, images: where was searched, and how many images that holds ("" and 1 for a pair).

    threshold: images of a higher similarity are taken for one person's; None: nobody knows. calibration: its figures, if it was
    calibrated; told: where it comes from, in a sentence. pair: two images were compared, and nothing was searched."""

    model: str
    gallery: str
    images: int
    lists: Sequence[Ranked]
    threshold: float | None
    told: str
    calibration: dict[str, Any] | None = None
    pair: bool = False

    def same(self, similarity: float) -> bool | None:
        return None if self.threshold is None else similarity > self.threshold

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "model": self.model,
            "gallery": self.gallery or None,
            "images": self.images,
            "threshold": self.threshold,
            "told": self.told,
            "calibration": self.calibration,
            "queries": [
                {
                    "query": one.query.path,
                    "left_out": list(one.left_out),
                    "ranked": [
                        {
                            "rank": rank,
                            "path": shown.path,
                            "camid": None if shown.camid < 0 else shown.camid,
                            "similarity": similarity,
                            "same": self.same(similarity),
                        }
                        for rank, (shown, similarity) in enumerate(one.matches, 1)
                    ],
                }
                for one in self.lists
            ],
        }


def search_text(search: Search) -> str:
    """Rank lists for the terminal; of many queries a line each."""
    if search.pair:
        (one,) = search.lists
        ((shown, similarity),) = one.matches
        return f"{one.query.path}\n{shown.path}\n{_verdict(search, similarity)}\n{search.told}"
    parts = [_list_text(search, one) for one in search.lists] if len(search.lists) <= TABLES else [_overview(search)]
    return "\n\n".join([*parts, f"{_among(search)} {search.told}"])


def _list_text(search: Search, one: Ranked) -> str:
    rows = [
        [str(rank), f"{similarity:.3f}", _mark(search, similarity), "–" if shown.camid < 0 else str(shown.camid), shown.path]
        for rank, (shown, similarity) in enumerate(one.matches, 1)
    ]
    head = ["rank", "similarity", "same person", "camera", "image"]
    copies = [f"left out as the query itself: {', '.join(one.left_out)}"] if one.left_out else []
    return "\n".join([one.query.path, text_table(head, rows, left=(2, 4)), *copies])


def _overview(search: Search) -> str:
    rows = []
    for one in search.lists:
        shown, similarity = one.matches[0] if one.matches else (Shown("–"), float("nan"))
        rows.append([one.query.path, number(similarity, 3), _above(search, one), shown.path])
    return text_table(["query", "similarity", "above", "first image"], rows, left=(0, 3))


def _above(search: Search, one: Ranked) -> str:
    """How many of the list are taken for the query's person."""
    return "–" if search.threshold is None else str(sum(similarity > search.threshold for _, similarity in one.matches))


def _mark(search: Search, similarity: float) -> str:
    return {True: "yes", False: "no", None: "–"}[search.same(similarity)]


def _verdict(search: Search, similarity: float) -> str:
    said = {True: "taken for the same person", False: "not taken for the same person", None: "no threshold to judge it by"}
    return f"similarity {similarity:.3f}: {said[search.same(similarity)]}"


def _among(search: Search) -> str:
    return f"Searched: {plural(search.images, 'image')} of {search.gallery}, with {search.model}."


def write_search_page(out: Path, search: Search) -> Path:
    """One self-contained page of the queries whose pictures were taken, written atomically."""
    drawn = [one for one in search.lists if one.query.pixels_HW3 is not None]
    heading = Path(search.lists[0].query.path).stem if len(search.lists) == 1 else f"{len(search.lists):,} queries"
    heading = "Two images" if search.pair else heading
    note = search.told if search.pair else f"{_among(search)} {search.told}"
    if len(drawn) < len(search.lists):
        note += f" Shown are the first {len(drawn):,} queries; --json writes all."
    figures = [_figure(search, one, f"q{at}") for at, one in enumerate(drawn, 1)]
    section = Section("Pair" if search.pair else "Rank lists", None, note, figures)
    return write_page(out, Page(f"{heading} · search", f"search · {search.model}", heading, _headline(search), [section]))


def _headline(search: Search) -> str:
    if search.pair:
        verdict = _verdict(search, search.lists[0].matches[0][1])
        return f"{verdict[0].upper()}{verdict[1:]}."
    if search.threshold is None:
        return "Ranked by similarity; there is no threshold to tell a person by."
    above = [sum(similarity > search.threshold for _, similarity in one.matches) for one in search.lists]
    if len(above) == 1:
        return f"{above[0]} of the first {plural(len(search.lists[0].matches), 'image')} are taken for the same person."
    return f"{np.count_nonzero(above):,} of {len(above):,} queries found an image that is taken for the same person."


def _figure(search: Search, one: Ranked, ident: str) -> Figure:
    cells, rows = [_cell(one.query, f"query: {one.query.path}", "query", "query")], []
    for rank, (shown, similarity) in enumerate(one.matches, 1):
        same, camid = search.same(similarity), None if shown.camid < 0 else shown.camid
        said = [f"rank {rank}: {shown.path}", *([] if camid is None else [f"camera {camid}"]), f"similarity {similarity:.3f}"]
        said += ["taken for the same person"] if same else []
        cells.append(_cell(shown, ", ".join(said), f"{similarity:.2f}{' ✓' if same else ''}", "hit" if same else "plain"))
        rows.append((rank, shown.path, camid, similarity, None if same is None else int(same)))
    judged = search.threshold is not None and not search.pair
    caption = f"{_above(search, one)} of {len(one.matches)} above the threshold (green, ✓)." if judged else ""
    if one.left_out:
        caption += f" Left out as the query itself: {', '.join(one.left_out)}."
    columns = [Column("rank"), Column("image"), Column("camera"), Column("similarity", "{:.3f}".format), Column("same person")]
    title = f"{one.query.path} and {one.matches[0][0].path}" if search.pair else one.query.path
    return Figure(ident, title, caption.strip(), columns, rows, strips=[Strip(cells, "ranked")], wide=True)


def _cell(shown: Shown, said: str, below: str, kind: str) -> Cell:
    assert shown.pixels_HW3 is not None
    return Cell(picture(shown.pixels_HW3, said), below, kind)

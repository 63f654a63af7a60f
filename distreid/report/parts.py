"""What a page is made of, as plain data that templates/ turn into HTML.

A figure's data are also a CSV file: a `data:` link rather than a file beside the page, so that a page that was mailed or moved
still holds them. It holds the values unrounded, accuracies as fractions.
"""

import base64
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distreid.report.images import Image
from distreid.report.marks import Chart


@dataclass(frozen=True)
class Table:
    """The first cell of a row names it. kind: classes."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = ""


@dataclass(frozen=True)
class Cell:
    """An image with a word below it. kind: its frame: query, hit, miss, plain."""

    image: Image
    below: str
    kind: str = "plain"


@dataclass(frozen=True)
class Strip:
    """Images in a row. kind: how many fit in one; title, words: above it."""

    cells: Sequence[Cell]
    kind: str
    title: str = ""
    words: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a figure's data: its name and how a value is written on the page; None is unknown."""

    name: str
    text: Callable[[Any], str] = str


@dataclass(frozen=True)
class Figure:
    """Charts, strips of images, or both.

    ident: unique on the page. columns, rows: the data. wide: over the whole page. tabled: False shows the CSV alone, for data that
    nobody reads. layout: how the strips stand: rows or triples.
    """

    ident: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    charts: Sequence[Chart] = ()
    strips: Sequence[Strip] = ()
    layout: str = "rows"
    wide: bool = False
    tabled: bool = True

    @property
    def table(self) -> Table:
        texts = [
            ["–" if value is None else column.text(value) for column, value in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]
        return Table([column.name for column in self.columns], texts)

    @property
    def csv(self) -> str:
        """The address of the data as a file."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        writer.writerows([["" if value is None else value for value in row] for row in self.rows])
        return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(text.getvalue().encode()).decode()}"


@dataclass(frozen=True)
class Fold:
    """A table that is opened by a click on its summary."""

    summary: str
    table: Table
    opened: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page; what is empty is not shown."""

    title: str
    table: Table | None = None
    note: str = ""
    figures: Sequence[Figure] = ()
    folds: Sequence[Fold] = ()

    @property
    def anchor(self) -> str:
        return self.title.lower().replace(" ", "-")

    @property
    def filled(self) -> bool:
        return bool(self.table or self.note or self.figures or self.folds)


@dataclass(frozen=True)
class Tile:
    """A figure that one looks for first, and a word on what it is."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Page:
    """title: of the document; kind: the line above the heading; headline: the result in one sentence."""

    title: str
    kind: str
    heading: str
    headline: str
    sections: Sequence[Section]
    tiles: Sequence[Tile] = ()

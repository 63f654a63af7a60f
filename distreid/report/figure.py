"""A figure of the page: caption, drawing, the data as a table and as a CSV file.

The CSV is a `data:` link rather than a file beside the page, so that a page that was mailed or moved still holds its data. It
holds the values unrounded, accuracies as fractions.
"""

import base64
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from distreid.report.words import details, table


@dataclass(frozen=True)
class Column:
    """A column of a figure's data: its name and how a value is written on the page; None is unknown."""

    name: str
    text: Callable[[Any], str] = str


def figure(
    ident: str,
    title: str,
    caption: str,
    drawing: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    *,
    wide: bool = False,
    tabled: bool = True,
) -> str:
    """drawing: HTML; rows: values by column; wide: over the whole page; tabled False: the CSV alone, for data nobody reads."""
    heading = f"<figcaption><strong>{escape(title)}</strong> {escape(caption)}</figcaption>"
    shown = ""
    if tabled:
        texts = [["–" if value is None else column.text(value) for column, value in zip(columns, row, strict=True)] for row in rows]
        shown = details("Data", table([column.name for column in columns], texts), of=title)
    file = _csv([column.name for column in columns], rows)
    label = f'CSV<span class="unseen"> of {escape(title)}</span>'
    link = f'<a class="csv" download="{ident}.csv" href="data:text/csv;charset=utf-8;base64,{file}">{label}</a>'
    return f'<figure{" class=wide" if wide else ""}>{heading}{drawing}<div class="data">{shown}{link}</div></figure>'


def panels(*drawings: str) -> str:
    """Several charts side by side in one figure."""
    return f'<div class="panels">{"".join(drawings)}</div>'


def _csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    return base64.b64encode(text.getvalue().encode()).decode()

"""The page of a sweep: what was chosen, drawings, every row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from distreid.files import atomic_write
from distreid.report.charts import Line
from distreid.report.figure import Column, figure
from distreid.report.grids import heat_map, level_chart
from distreid.report.page import document
from distreid.report.words import table

Tile = tuple[str, str, str]  # name, value, note
Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # head, rows


@dataclass(frozen=True)
class HeatMap:
    """values: a row for each of `rows`, a column for each of `columns`. digits: of a value. chosen: the framed cell."""

    title: str
    caption: str
    x_label: str
    columns: Sequence[str]
    y_label: str
    rows: Sequence[str]
    values: Sequence[Sequence[float | None]]
    digits: int = 0
    chosen: tuple[int, int] | None = None


@dataclass(frozen=True)
class Curves:
    """Named lines over the levels of one setting: {name: a value for each level}."""

    title: str
    caption: str
    x_label: str
    levels: Sequence[str]
    y_label: str
    lines: Mapping[str, Sequence[float | None]]
    digits: int = 1


def write_sweep_page(
    out: Path, title: str, headline: str, tiles: Sequence[Tile], drawings: Sequence[HeatMap | Curves], rows: Table, note: str
) -> None:
    """One self-contained HTML page, written atomically. Everything that is handed in is escaped."""
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(what)}</small></dd></div>" for name, value, what in tiles
    )
    figures = [
        _heat(drawing, f"d{k}") if isinstance(drawing, HeatMap) else _curves(drawing, f"d{k}") for k, drawing in enumerate(drawings)
    ]
    body = [
        f"<header><p class=kind>SWEEP · {escape(out.parent.name)}</p><h1>{escape(title)}</h1>",
        f"<p class=headline>{escape(headline)}</p></header>",
        f"<dl class=tiles>{''.join(cells)}</dl>",
        f"<section><h2>Figures</h2><div class=figures>{''.join(figures)}</div></section>" if figures else "",
        f"<section><h2>All</h2>{table(*rows)}<p class=note>{escape(note)}</p></section>",
    ]
    with atomic_write(out) as stream:
        stream.write(document(title, "".join(body)).encode())


def _heat(drawing: HeatMap, ident: str) -> str:
    def text(value: float) -> str:
        return f"{value:,.{drawing.digits}f}"

    known = [value for line in drawing.values for value in line if value is not None]
    said = f"From {text(min(known))} to {text(max(known))}." if known else "No value."
    chart = heat_map(
        ident, drawing.title, said, drawing.columns, drawing.rows, drawing.values,
        x_label=drawing.x_label, y_label=drawing.y_label, text=text, chosen=drawing.chosen,
    )  # fmt: skip
    columns = [Column(drawing.y_label), *(Column(name, text) for name in drawing.columns)]
    lines = [[name, *line] for name, line in zip(drawing.rows, drawing.values, strict=True)]
    return figure(ident, drawing.title, drawing.caption, chart, columns, lines)


def _curves(drawing: Curves, ident: str) -> str:
    def text(value: float) -> str:
        return f"{value:,.{drawing.digits}f}"

    lines = [
        Line(name, [(float(at), value) for at, value in enumerate(values)], tone)
        for tone, (name, values) in enumerate(drawing.lines.items(), 1)
    ]
    said = "; ".join(
        f"{name}: {', '.join('none' if value is None else text(value) for value in values)}"
        for name, values in drawing.lines.items()
    )
    chart = level_chart(
        ident, drawing.title, f"{said}.", drawing.levels, lines, x_label=drawing.x_label, y_label=drawing.y_label, text=text
    )
    columns = [Column(drawing.x_label), *(Column(name, text) for name in drawing.lines)]
    data = [[level, *(values[at] for values in drawing.lines.values())] for at, level in enumerate(drawing.levels)]
    return figure(ident, drawing.title, drawing.caption, chart, columns, data)

"""The page of a sweep: what was chosen, drawings, every row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distreid.report.charts import heat_map, level_chart
from distreid.report.html import write_page
from distreid.report.marks import Line
from distreid.report.parts import Column, Figure, Page, Section, Table, Tile


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
    out: Path,
    title: str,
    headline: str,
    tiles: Sequence[tuple[str, str, str]],
    drawings: Sequence[HeatMap | Curves],
    rows: tuple[Sequence[str], Sequence[Sequence[str]]],
    note: str,
) -> None:
    """One self-contained HTML page, written atomically.

    tiles: name, value, note of each. rows: the head and the lines of the table of everything.
    """
    figures = [
        _heat(drawing, f"d{k}") if isinstance(drawing, HeatMap) else _curves(drawing, f"d{k}") for k, drawing in enumerate(drawings)
    ]
    sections = [Section("Figures", figures=figures), Section("All", Table(*rows), note)]
    shown = [Tile(*tile) for tile in tiles]
    write_page(out, Page(title, f"SWEEP · {out.parent.name}", title, headline, sections, shown))


def _heat(drawing: HeatMap, ident: str) -> Figure:
    text = f"{{:,.{drawing.digits}f}}".format
    known = [value for line in drawing.values for value in line if value is not None]
    said = f"From {text(min(known))} to {text(max(known))}." if known else "No value."
    chart = heat_map(
        ident, drawing.title, said, drawing.columns, drawing.rows, drawing.values,
        x_label=drawing.x_label, y_label=drawing.y_label, text=text, chosen=drawing.chosen,
    )  # fmt: skip
    columns = [Column(drawing.y_label), *(Column(name, text) for name in drawing.columns)]
    lines = [[name, *line] for name, line in zip(drawing.rows, drawing.values, strict=True)]
    return Figure(ident, drawing.title, drawing.caption, columns, lines, [chart])


def _curves(drawing: Curves, ident: str) -> Figure:
    text = f"{{:,.{drawing.digits}f}}".format
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
    return Figure(ident, drawing.title, drawing.caption, columns, data, [chart])

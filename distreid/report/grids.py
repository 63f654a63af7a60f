"""Charts of sweeps as inline SVG: a heat map of two settings, lines over the values of one."""

import math
from collections.abc import Callable, Sequence
from html import escape

from distreid.report.charts import (
    _LETTER,
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Line,
    _axis_names,
    _end_names,
    _finite,
    _path,
    _rows,
    make_axis,
    svg,
    text_at,
)

_ROW = 22


def heat_map(
    ident: str,
    title: str,
    description: str,
    columns: Sequence[str],
    rows: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    x_label: str,
    y_label: str,
    text: Callable[[float], str],
    chosen: tuple[int, int] | None = None,
) -> str:
    """A cell for each (row, column), the darker the larger; a cell without a value (None or NaN) is empty.

    text: how a value is written. chosen: (row, column) of a cell that is framed.
    """
    known = [value for line in values for value in line if _finite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    left = max(LEFT, 12 + max(len(name) for name in rows) * _LETTER)
    wide = (WIDTH - RIGHT - left) / len(columns)
    written = max((len(text(value)) for value in known), default=0) * _LETTER < wide
    every = math.ceil(max(len(name) for name in columns) * _LETTER / wide)
    bottom = TOP + len(rows) * _ROW
    parts = [text_at((left + WIDTH - RIGHT) / 2, bottom + 34, x_label, "middle", "faint"), text_at(2, 11, y_label, kind="faint")]
    for column, name in enumerate(columns):
        if column % every == 0:
            parts.append(text_at(left + (column + 0.5) * wide, bottom + 15, name, "middle", "faint"))
    for row, name in enumerate(rows):
        y = TOP + row * _ROW
        parts.append(text_at(left - 7, y + 15, name, "end", "faint"))
        for column, value in enumerate(values[row]):
            x = left + column * wide
            box = f'x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{wide - 1:.1f}" height="{_ROW - 1}"'
            if not _finite(value):
                hover = escape(f"{x_label} {columns[column]}, {y_label} {name}: none")
                parts.append(f'<rect class="band-0" {box}><title>{hover}</title></rect>')
                continue
            # From 0.08, so that the smallest value is told from none, to 0.8, so that text on it stays readable.
            shade = 0.08 + 0.72 * ((value - low) / (high - low) if high > low else 0.5)
            hover = escape(f"{x_label} {columns[column]}, {y_label} {name}: {text(value)}")
            parts.append(f'<rect class="fill-1" fill-opacity="{shade:.2f}" {box}><title>{hover}</title></rect>')
            if written:
                parts.append(text_at(x + wide / 2, y + 15, text(value), "middle"))
    if chosen is not None:
        x, y = left + chosen[1] * wide, TOP + chosen[0] * _ROW
        parts.append(f'<rect class="line tone-2" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{_ROW}"/>')
    return svg(ident, title, description, bottom + 42, parts)


def level_chart(
    ident: str,
    title: str,
    description: str,
    levels: Sequence[str],
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    text: Callable[[float], str],
) -> str:
    """Lines over named levels, evenly spaced: a line's x is the number of its level, from 0."""
    shown = [value for line in lines for _, value in line.points if _finite(value)]
    right = WIDTH - RIGHT - max((len(line.name) * _LETTER for line in lines), default=0)
    room = (right - LEFT) / max(len(levels), 1)
    x = Axis(0, max(len(levels) - 1, 1), LEFT + room / 2, right - room / 2, 1)
    y = make_axis(shown or [0.0, 1.0], HEIGHT - BOTTOM, TOP)
    every = math.ceil(max((len(name) for name in levels), default=1) * _LETTER / room)
    parts = [*_rows(y, right), _axis_names(x_label, y_label, right)]
    for number, name in enumerate(levels):
        if number % every == 0:
            parts.append(text_at(x(number), HEIGHT - BOTTOM + 15, name, "middle", "faint"))
    for line in lines:
        parts.append(_path(line, x, y))
        for at, value in line.points:
            if _finite(value):
                hover = escape(f"{line.name}, {x_label} {levels[int(at)]}: {text(value)}")
                circle = f'<circle class="fill-{line.tone}" cx="{x(at):.1f}" cy="{y(value):.1f}" r="3.2">'
                parts.append(f"{circle}<title>{hover}</title></circle>")
    parts += _end_names(lines, right + 8, y)
    return svg(ident, title, description, HEIGHT, parts)

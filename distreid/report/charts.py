"""The charts of the pages: lines over rounds or over levels, bars, a histogram, a heat map, a cloud of points."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distreid.report.marks import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LETTER,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Chart,
    Line,
    Mark,
    Text,
    axis_names,
    box,
    columns,
    end_names,
    finite,
    label,
    left_of,
    make_axis,
    mark,
    path,
    points,
    rows,
)

_MARKED = 40  # a longer line is drawn without its points
_BAR, _CELL, _LEGEND = 24, 22, 19  # height of a row
_CLOUD, _MARGIN, _RADIUS = 300, 12, 4.0
COLOURS, SHAPES = 12, 3  # of a cloud's groups; style.css fills cat-0 .. cat-11


@dataclass(frozen=True)
class Band:
    """A named stretch of the x axis."""

    name: str
    start: float
    stop: float


def line_chart(
    ident: str,
    title: str,
    description: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    text: Text,
    zero: bool = True,
    whole: bool = False,
    bands: Sequence[Band] = (),
    name: str = "",
    words: str = "",
) -> Chart:
    """Lines over a whole-numbered x axis, each named at its right end unless the y axis alone says what it is.

    text: how a y is written on hover; zero, whole: of the y axis, see `make_axis`; name, words: see `Chart`.
    """
    shown = [(at, value) for line in lines for at, value in line.points if finite(value)]
    edges = [edge for band in bands for edge in (band.start, band.stop)]
    named = [] if len(lines) == 1 and lines[0].name == y_label else lines
    y = make_axis([value for _, value in shown], HEIGHT - BOTTOM, TOP, zero=zero, whole=whole)
    left, right = left_of(y), _right(named)
    x = make_axis([at for at, _ in shown] + edges, left, right, whole=True, fit=True)
    ticks = [label(x(tick), HEIGHT - BOTTOM + 15, x.text(tick), "middle", "faint") for tick in x.ticks]
    marks = [*_bands(bands, x), *rows(y, left, right), *ticks, *axis_names(x_label, y_label, left, right)]
    marks += [path(line, x, y) for line in lines]
    for line in lines:
        if not line.dashed and len(line.points) <= _MARKED:
            marks += points(line, x, y, x.text, text)
    return Chart(ident, title, description, HEIGHT, marks + end_names(named, right + 8, y), name, words)


def level_chart(
    ident: str,
    title: str,
    description: str,
    levels: Sequence[str],
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    text: Text,
) -> Chart:
    """Lines over named levels, evenly spaced: a line's x is the number of its level, from 0."""
    shown = [value for line in lines for _, value in line.points if finite(value)]
    y = make_axis(shown or [0.0, 1.0], HEIGHT - BOTTOM, TOP)
    left, right = left_of(y), _right(lines)
    room = (right - left) / max(len(levels), 1)
    x = Axis(0, max(len(levels) - 1, 1), left + room / 2, right - room / 2, 1)
    marks = [*rows(y, left, right), *axis_names(x_label, y_label, left, right)]
    marks += columns(levels, [x(at) for at in range(len(levels))], room, HEIGHT - BOTTOM + 15)
    for line in lines:
        marks += [path(line, x, y), *points(line, x, y, lambda at: f"{x_label} {levels[int(at)]}", text)]
    return Chart(ident, title, description, HEIGHT, marks + end_names(lines, right + 8, y))


def stacked_bars(
    ident: str, title: str, description: str, names: Sequence[str], bars: Sequence[tuple[str, Sequence[float]]], text: Text
) -> Chart:
    """Horizontal bars (label, parts in the order of `names`), their sum written at the end."""
    left, top = 12 + max((len(name) for name, _ in bars), default=0) * LETTER, 34
    longest = max((sum(values) for _, values in bars), default=0.0) or 1.0
    scale = (WIDTH - left - 12 * LETTER) / longest  # with space for the sum
    marks, cursor = list[Mark](), 2.0
    for tone, name in enumerate(names, 1):
        marks += [box(f"fill tone-{tone}", cursor, 6, 10, 10, rx="2"), label(cursor + 15, 15, name)]
        cursor += 15 + len(name) * LETTER + 14
    for number, (bar, values) in enumerate(bars):
        y, at = top + number * _BAR, float(left)
        marks.append(label(left - 8, y + 13, bar, "end"))
        for tone, (name, value) in enumerate(zip(names, values, strict=True), 1):
            if value > 0:
                marks.append(box(f"fill tone-{tone} bar", at, y, value * scale, 16, hover=f"{bar}, {name}: {text(value)}"))
            at += value * scale
        marks.append(label(at + 6, y + 13, text(sum(values)), kind="strong"))
    return Chart(ident, title, description, top + len(bars) * _BAR + 4, marks)


def histogram(ident: str, title: str, description: str, bins: Sequence[tuple[str, int]], *, x_label: str, y_label: str) -> Chart:
    """Upright bars (label, count)."""
    y = make_axis([count for _, count in bins], HEIGHT - BOTTOM, TOP, zero=True, whole=True)
    left, right = left_of(y), WIDTH - RIGHT
    width = (right - left) / len(bins)
    centres = [left + (number + 0.5) * width for number in range(len(bins))]
    marks = [*rows(y, left, right), *axis_names(x_label, y_label, left, right)]
    for centre, (name, count) in zip(centres, bins, strict=True):
        left, height = centre - width / 2 + 2, y.start - y(count)
        marks.append(box("fill tone-1", left, y(count), width - 4, height, hover=f"{name}: {count}"))
    marks += columns([name for name, _ in bins], centres, width, HEIGHT - BOTTOM + 15)
    return Chart(ident, title, description, HEIGHT, marks)


def heat_map(
    ident: str,
    title: str,
    description: str,
    across: Sequence[str],
    down: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    x_label: str,
    y_label: str,
    text: Text,
    chosen: tuple[int, int] | None = None,
) -> Chart:
    """A cell for each (row of `down`, column of `across`), the darker the larger; one without a value (None or NaN) is empty.

    text: how a value is written. chosen: (row, column) of a cell that is framed.
    """
    known = [value for line in values for value in line if finite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    left, right = max(LEFT, 12 + max(len(name) for name in down) * LETTER), WIDTH - RIGHT
    wide = (right - left) / len(across)
    written = max((len(text(value)) for value in known), default=0) * LETTER < wide
    bottom = TOP + len(down) * _CELL
    marks = axis_names(x_label, y_label, left, right, bottom + 42)
    marks += columns(across, [left + (at + 0.5) * wide for at in range(len(across))], wide, bottom + 15)
    for row, name in enumerate(down):
        y = TOP + row * _CELL
        marks.append(label(left - 7, y + 15, name, "end", "faint"))
        for column, value in enumerate(values[row]):
            x = left + column * wide
            place = x + 0.5, y + 0.5, wide - 1, _CELL - 1
            where = f"{x_label} {across[column]}, {y_label} {name}"
            if not finite(value):
                marks.append(box("band-0", *place, hover=f"{where}: none"))
                continue
            # From 0.08, so that the smallest value is told from none, to 0.8, so that text on it stays readable.
            shade = 0.08 + 0.72 * ((value - low) / (high - low) if high > low else 0.5)
            marks.append(box("fill tone-1", *place, hover=f"{where}: {text(value)}", fill_opacity=f"{shade:.2f}"))
            if written:
                marks.append(label(x + wide / 2, y + 15, text(value), "middle"))
    if chosen is not None:
        marks.append(box("line tone-2", left + chosen[1] * wide, TOP + chosen[0] * _CELL, wide, _CELL))
    return Chart(ident, title, description, bottom + 42, marks)


def scatter(
    ident: str, title: str, description: str, xy_N2: NDArray[np.floating], groups: Sequence[str], names: Sequence[str]
) -> Chart:
    """A cloud of points in colours and shapes together, so that colour alone says nothing.

    groups: of each point, in words, one of names. The axes have no unit, so none is drawn; both have the same scale.
    """
    low_2, high_2 = xy_N2.min(axis=0), xy_N2.max(axis=0)
    room_2 = np.array([WIDTH, _CLOUD]) - 2 * _MARGIN
    scale = float((room_2 / np.maximum(high_2 - low_2, 1e-9)).min())
    at_N2 = (xy_N2 - (low_2 + high_2) / 2) * scale + np.array([WIDTH / 2, TOP + _CLOUD / 2])
    marks = [label(2, 11, title, kind="strong")]
    order = {name: number for number, name in enumerate(names)}
    marks += [_point(order[group], float(x), float(y), group) for (x, y), group in zip(at_N2, groups, strict=True)]
    beside = max(1, int(WIDTH // (26 + 7 * max(len(name) for name in names))))
    for number, name in enumerate(names):
        x, y = 8 + (number % beside) * WIDTH / beside, TOP + _CLOUD + 14 + (number // beside) * _LEGEND
        marks += [_point(number, x, y), label(x + 10, y + 4, name, kind="faint")]
    return Chart(ident, title, description, TOP + _CLOUD + 10 + -(-len(names) // beside) * _LEGEND, marks)


def _point(number: int, x: float, y: float, hover: str = "") -> Mark:
    kind, shape = f"mark cat-{number % COLOURS}", number % SHAPES
    if shape == 0:
        return mark("circle", kind, hover=hover, cx=x, cy=y, r=_RADIUS)
    corners = "l4.6 8h-9.2z" if shape == 1 else "h7.4v7.4h-7.4z"
    left, top = (x, y - 5) if shape == 1 else (x - 3.7, y - 3.7)
    return mark("path", kind, hover=hover, d=f"M{left:.1f} {top:.1f}{corners}")


def _right(named: Sequence[Line]) -> float:
    """Where the plot ends, with space for the lines' names."""
    return WIDTH - RIGHT - max((len(line.name) * LETTER for line in named), default=0)


def _bands(bands: Sequence[Band], x: Axis) -> list[Mark]:
    marks = []
    for number, band in enumerate(bands):
        left, width = x(band.start), x(band.stop) - x(band.start)
        marks.append(box(f"band-{number % 2}", left, TOP, width, HEIGHT - BOTTOM - TOP, hover=band.name))
        fitting = [name for name in (band.name, band.name.split()[-1]) if len(name) * LETTER < width]
        marks += [label(left + width / 2, TOP + 12, name, "middle", "faint") for name in fitting[:1]]
    return marks

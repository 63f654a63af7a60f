"""What charts are made of: SVG elements as data (templates/chart.svg.j2 writes them), axes, lines.

Colours are classes that style.css fills, so a chart follows the page into dark mode and print. A chart is 400 units wide: about
the width of a phone, so its text stays readable there. Points and bars carry a title that browsers show on hover.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 22, 42  # margins of the plot; the names of several lines widen the right one
LETTER = 7.2  # width of a letter, on average, in a wide font
Text = Callable[[float], str]  # how a value is written


@dataclass(frozen=True)
class Mark:
    """An SVG element. attributes: by SVG's name; text: its content; hover: its <title>."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    hover: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing that is WIDTH wide. title, description: for those who cannot see it. name, words: shown above it."""

    ident: str
    title: str
    description: str
    height: float
    marks: Sequence[Mark]
    name: str = ""
    words: str = ""


@dataclass(frozen=True)
class Line:
    """A named line. points: (x, y) by x; a y of None (or NaN) leaves a gap. tone: colour 1-8. dashed: a reference."""

    name: str
    points: Sequence[tuple[float, float | None]]
    tone: int
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """Maps low..high to start..stop, linearly; `step` lies between two ticks."""

    low: float
    high: float
    start: float
    stop: float
    step: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    @property
    def ticks(self) -> list[float]:
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return [k * self.step for k in range(first, last + 1)]

    def text(self, value: float) -> str:
        return f"{value:,.{max(0, -math.floor(math.log10(self.step) + 1e-9))}f}"


def make_axis(
    values: Iterable[float], start: float, stop: float, *, zero: bool = False, whole: bool = False, fit: bool = False
) -> Axis:
    """An axis over the values, with about five round ticks.

    zero: begin at 0; whole: ticks at whole numbers only; fit: end at the values rather than at the next tick.
    """
    values = list(values)
    low, high = min([0.0, *values] if zero else values), max(values)
    if low == high:
        room = 0.5 if whole and not zero else abs(high) / 10 or 1.0
        low, high = (low if zero else low - room), high + room
    rough = (high - low) / 5
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    if whole and fit and high - low <= 12:
        step = 1.0  # rounds: there is space for every one
    if not fit:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Axis(low, high, start, stop, step)


def mark(tag: str, kind: str, *, text: str = "", hover: str = "", **attributes: str | float) -> Mark:
    """kind: classes; numbers are written to a tenth, as is enough in a drawing of 400 units; under_scores become hyphens."""
    written = {
        name.replace("_", "-"): value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
        for name, value in attributes.items()
    }
    return Mark(tag, {"class": kind, **written}, text, hover)


def box(kind: str, x: float, y: float, width: float, height: float, *, hover: str = "", **attributes: str) -> Mark:
    return mark("rect", kind, hover=hover, x=x, y=y, width=width, height=height, **attributes)


def label(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> Mark:
    """Text within a drawing; anchor: start, middle or end."""
    return mark("text", kind, text=text, x=x, y=y, text_anchor=anchor)


def axis_names(x_label: str, y_label: str, left: float, right: float, bottom: float = HEIGHT) -> list[Mark]:
    return [label((left + right) / 2, bottom - 8, x_label, "middle", "faint"), label(2, 11, y_label, kind="faint")]


def left_of(y: Axis) -> float:
    """Where a plot begins, with space for the y axis' numbers."""
    return max(LEFT, 8 + max(len(y.text(tick)) for tick in y.ticks) * LETTER)


def rows(y: Axis, left: float, right: float) -> list[Mark]:
    """The y axis: a line and a number for each tick."""
    lines = [mark("path", "grid", d=f"M{left:.1f} {y(tick):.1f}H{right:.1f}") for tick in y.ticks]
    return lines + [label(left - 7, y(tick) + 4, y.text(tick), "end", "faint") for tick in y.ticks]


def columns(names: Sequence[str], centres: Sequence[float], room: float, y: float) -> list[Mark]:
    """Names below a drawing, as many as fit; room: between two centres."""
    every = math.ceil(max((len(name) for name in names), default=1) * LETTER / room)
    places = list(zip(centres, names, strict=True))[::every]
    return [label(centre, y, name, "middle", "faint") for centre, name in places]


def path(line: Line, x: Axis, y: Axis) -> Mark:
    steps, drawing = [], False
    for at, value in line.points:
        if finite(value):
            # A point without neighbours is a line of no length; its round cap shows as a dot.
            steps.append(f"{'L' if drawing else 'M'}{x(at):.1f} {y(value):.1f}" + ("" if drawing else "h0"))
        drawing = finite(value)
    return mark("path", f"line tone-{line.tone}{' dashed' * line.dashed}", d="".join(steps))


def points(line: Line, x: Axis, y: Axis, where: Text, text: Text) -> list[Mark]:
    """where, text: how an x and a y are written on hover."""
    return [
        mark("circle", f"fill tone-{line.tone}", hover=f"{line.name}, {where(at)}: {text(value)}", cx=x(at), cy=y(value), r="3.2")
        for at, value in line.points
        if finite(value)
    ]


def end_names(lines: Sequence[Line], left: float, y: Axis, gap: float = 14) -> list[Mark]:
    """The lines' names beside their last points, moved apart where they would touch."""
    ends = [(line, [value for _, value in line.points if finite(value)]) for line in lines]
    named = sorted(((y(values[-1]), line) for line, values in ends if values), key=lambda pair: pair[0])
    places: list[float] = []
    for wanted, _ in named:
        places.append(max(wanted, places[-1] + gap) if places else wanted)
    lowest = float(HEIGHT - BOTTOM)
    for number in reversed(range(len(places))):
        places[number] = min(places[number], lowest)
        lowest = places[number] - gap
    return [
        label(left, place + 4, line.name, kind=f"name tone-{line.tone}") for place, (_, line) in zip(places, named, strict=True)
    ]


def finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)

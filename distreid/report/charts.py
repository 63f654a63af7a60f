"""Line and bar charts as inline SVG.

Colours are classes that style.py fills, so a chart follows the page into dark mode and print. A chart is 400 units wide: about
the width of a phone, so its text stays readable there. Points and bars carry a title that browsers show on hover.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeGuard

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 22, 42  # margins of the plot; the names of several lines widen the right one
_MARKED = 40  # a longer line is drawn without its points
_LETTER = 7.2  # width of a letter, on average, in a wide font


@dataclass(frozen=True)
class Line:
    """A named line. points: (x, y) by x; a y of None (or NaN) leaves a gap. tone: colour 1-8. dashed: a reference."""

    name: str
    points: Sequence[tuple[float, float | None]]
    tone: int
    dashed: bool = False


@dataclass(frozen=True)
class Band:
    """A named stretch of the x axis."""

    name: str
    start: float
    stop: float


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


def line_chart(
    ident: str,
    title: str,
    description: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    text: Callable[[float], str],
    zero: bool = True,
    whole: bool = False,
    bands: Sequence[Band] = (),
) -> str:
    """Lines over a whole-numbered x axis, each named at its right end unless the y axis alone says what it is.

    text: how a y is written on hover; zero, whole: of the y axis, see `make_axis`.
    """
    shown = [(at, value) for line in lines for at, value in line.points if _finite(value)]
    edges = [edge for band in bands for edge in (band.start, band.stop)]
    named = [] if len(lines) == 1 and lines[0].name == y_label else lines
    right = WIDTH - RIGHT - max((len(line.name) * _LETTER for line in named), default=0)
    x = make_axis([at for at, _ in shown] + edges, LEFT, right, whole=True, fit=True)
    y = make_axis([value for _, value in shown], HEIGHT - BOTTOM, TOP, zero=zero, whole=whole)
    parts = [*_bands(bands, x), *_rows(y, right), *_columns(x), _axis_names(x_label, y_label, right)]
    parts += [_path(line, x, y) for line in lines]
    parts += [mark for line in lines if not line.dashed and len(line.points) <= _MARKED for mark in _marks(line, x, y, text)]
    parts += _end_names(named, right + 8, y)
    return svg(ident, title, description, HEIGHT, parts)


def stacked_bars(
    ident: str,
    title: str,
    description: str,
    names: Sequence[str],
    bars: Sequence[tuple[str, Sequence[float]]],
    text: Callable[[float], str],
) -> str:
    """Horizontal bars (label, parts in the order of `names`), their sum written at the end."""
    left, top, row = 82, 34, 24
    longest = max((sum(values) for _, values in bars), default=0.0) or 1.0
    scale = (WIDTH - left - 12 * _LETTER) / longest  # with space for the sum
    parts, cursor = [], 2.0
    for tone, name in enumerate(names, 1):
        parts.append(f'<rect class="fill-{tone}" x="{cursor:.1f}" y="6" width="10" height="10" rx="2"/>')
        parts.append(text_at(cursor + 15, 15, name))
        cursor += 15 + len(name) * _LETTER + 14
    for number, (label, values) in enumerate(bars):
        y, at = top + number * row, float(left)
        parts.append(text_at(left - 8, y + 13, label, "end"))
        for tone, (name, value) in enumerate(zip(names, values, strict=True), 1):
            if value > 0:
                hover = escape(f"{label}, {name}: {text(value)}")
                box = f'x="{at:.1f}" y="{y}" width="{value * scale:.1f}" height="16"'
                parts.append(f'<rect class="fill-{tone} bar" {box}><title>{hover}</title></rect>')
            at += value * scale
        parts.append(text_at(at + 6, y + 13, text(sum(values)), kind="strong"))
    return svg(ident, title, description, top + len(bars) * row + 4, parts)


def histogram(ident: str, title: str, description: str, bins: Sequence[tuple[str, int]], *, x_label: str, y_label: str) -> str:
    """Upright bars (label, count)."""
    y = make_axis([count for _, count in bins], HEIGHT - BOTTOM, TOP, zero=True, whole=True)
    right = WIDTH - RIGHT
    width = (right - LEFT) / len(bins)
    every = math.ceil(max(len(label) for label, _ in bins) * _LETTER / width)
    parts = [*_rows(y, right), _axis_names(x_label, y_label, right)]
    for number, (label, count) in enumerate(bins):
        left, top = LEFT + number * width, y(count)
        box = f'x="{left + 2:.1f}" y="{top:.1f}" width="{width - 4:.1f}" height="{y.start - top:.1f}"'
        parts.append(f'<rect class="fill-1" {box}><title>{escape(f"{label}: {count}")}</title></rect>')
        if number % every == 0:
            parts.append(text_at(left + width / 2, HEIGHT - BOTTOM + 15, label, "middle", "faint"))
    return svg(ident, title, description, HEIGHT, parts)


def svg(ident: str, title: str, description: str, height: float, parts: Iterable[str]) -> str:
    """A drawing that is WIDTH wide, with its name and description for those who cannot see it; ident: unique on the page."""
    alternative = f'<title id="{ident}-t">{escape(title)}</title><desc id="{ident}-d">{escape(description)}</desc>'
    box = f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{ident}-t" aria-describedby="{ident}-d"'
    return f"<svg {box}>{alternative}{''.join(parts)}</svg>"


def text_at(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    """Escaped text within a drawing; anchor: start, middle or end; kind: classes."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _axis_names(x_label: str, y_label: str, right: float) -> str:
    return text_at((LEFT + right) / 2, HEIGHT - 8, x_label, "middle", "faint") + text_at(2, 11, y_label, kind="faint")


def _rows(y: Axis, right: float) -> list[str]:
    lines = [f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{right:.1f}"/>' for tick in y.ticks]
    return lines + [text_at(LEFT - 7, y(tick) + 4, y.text(tick), "end", "faint") for tick in y.ticks]


def _columns(x: Axis) -> list[str]:
    return [text_at(x(tick), HEIGHT - BOTTOM + 15, x.text(tick), "middle", "faint") for tick in x.ticks]


def _bands(bands: Sequence[Band], x: Axis) -> list[str]:
    parts = []
    for number, band in enumerate(bands):
        left, width = x(band.start), x(band.stop) - x(band.start)
        tint = "band-1" if number % 2 else "band-0"
        box = f'x="{left:.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - BOTTOM - TOP}"'
        parts.append(f'<rect class="{tint}" {box}><title>{escape(band.name)}</title></rect>')
        fitting = [name for name in (band.name, band.name.split()[-1]) if len(name) * _LETTER < width]
        parts += [text_at(left + width / 2, TOP + 12, name, "middle", "faint") for name in fitting[:1]]
    return parts


def _path(line: Line, x: Axis, y: Axis) -> str:
    steps, drawing = [], False
    for at, value in line.points:
        if _finite(value):
            # A point without neighbours is a line of no length; its round cap shows as a dot.
            steps.append(f"{'L' if drawing else 'M'}{x(at):.1f} {y(value):.1f}" + ("" if drawing else "h0"))
        drawing = _finite(value)
    return f'<path class="line tone-{line.tone}{" dashed" if line.dashed else ""}" d="{"".join(steps)}"/>'


def _marks(line: Line, x: Axis, y: Axis, text: Callable[[float], str]) -> list[str]:
    return [
        f'<circle class="fill-{line.tone}" cx="{x(at):.1f}" cy="{y(value):.1f}" r="3.2">'
        f"<title>{escape(f'{line.name}, {x.text(at)}: {text(value)}')}</title></circle>"
        for at, value in line.points
        if _finite(value)
    ]


def _end_names(lines: Sequence[Line], left: float, y: Axis, gap: float = 14) -> list[str]:
    """The lines' names beside their last points, moved apart where they would touch."""
    named = []
    for line in lines:
        ends = [value for _, value in line.points if _finite(value)]
        if ends:
            named.append((y(ends[-1]), line))
    named.sort(key=lambda pair: pair[0])
    places: list[float] = []
    for wanted, _ in named:
        places.append(max(wanted, places[-1] + gap) if places else wanted)
    lowest = float(HEIGHT - BOTTOM)
    for number in reversed(range(len(places))):
        places[number] = min(places[number], lowest)
        lowest = places[number] - gap
    return [
        text_at(left, place + 4, line.name, kind=f"name ink-{line.tone}") for place, (_, line) in zip(places, named, strict=True)
    ]


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)

"""A cloud of points by group, as inline SVG: colours and shapes together, so that colour alone says nothing."""

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from distreid.report.charts import WIDTH, svg, text_at

_PLOT, _TOP, _MARGIN, _ROW, _RADIUS = 300, 22, 12, 19, 4.0
COLOURS, SHAPES = 12, 3  # style.py fills cat-0 .. cat-11


def scatter(
    ident: str, title: str, description: str, xy_N2: NDArray[np.floating], groups: Sequence[str], names: Sequence[str]
) -> str:
    """groups: of each point, in words, one of names. The axes have no unit, so none is drawn; both have the same scale."""
    low_2, high_2 = xy_N2.min(axis=0), xy_N2.max(axis=0)
    room_2 = np.array([WIDTH, _PLOT]) - 2 * _MARGIN
    scale = float((room_2 / np.maximum(high_2 - low_2, 1e-9)).min())
    at_N2 = (xy_N2 - (low_2 + high_2) / 2) * scale + np.array([WIDTH / 2, _TOP + _PLOT / 2])
    parts = [text_at(2, 11, title, kind="strong")]
    order = {name: number for number, name in enumerate(names)}
    for (x, y), group in zip(at_N2, groups, strict=True):
        parts.append(_mark(order[group], float(x), float(y), f"<title>{escape(group)}</title>"))
    columns = max(1, int(WIDTH // (26 + 7 * max(len(name) for name in names))))
    for number, name in enumerate(names):
        x, y = 8 + (number % columns) * WIDTH / columns, _TOP + _PLOT + 14 + (number // columns) * _ROW
        parts += [_mark(number, x, y, ""), text_at(x + 10, y + 4, name, kind="faint")]
    return svg(ident, title, description, _TOP + _PLOT + 10 + -(-len(names) // columns) * _ROW, parts)


def _mark(number: int, x: float, y: float, content: str) -> str:
    look, r = f'class="mark cat-{number % COLOURS}"', _RADIUS
    shape = number % SHAPES
    if shape == 0:
        return f'<circle {look} cx="{x:.1f}" cy="{y:.1f}" r="{r}">{content}</circle>'
    corners = "l4.6 8h-9.2z" if shape == 1 else "h7.4v7.4h-7.4z"
    left, top = (x, y - 5) if shape == 1 else (x - 3.7, y - 3.7)
    return f'<path {look} d="M{left:.1f} {top:.1f}{corners}">{content}</path>'

"""Numbers as a person reads them, and the pieces of HTML that the page is made of. Everything that is handed in is escaped."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any


def percent(fraction: float | None) -> str:
    """0.6784 -> '67.8'; unknown -> '–'."""
    return "–" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f}"


def number(value: float | None, digits: int = 0) -> str:
    """12936 -> '12,936'; unknown -> '–'."""
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """7.31 -> '7.3 s', 200 -> '3 min 20 s', 7500 -> '2.1 h'."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{seconds / 3600:,.1f} h"


def plural(count: int, noun: str, nouns: str = "") -> str:
    """nouns: the plural, where it is not the noun with an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {nouns or noun + 's'}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", kind: str = "") -> str:
    """The first column names its row."""
    parts = [f'<div class="scroll" tabindex="0"><table class="{kind}">']
    if caption:
        parts.append(f"<caption>{escape(caption)}</caption>")
    parts.append("<thead><tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in head) + "</tr></thead><tbody>")
    for name, *cells in rows:
        parts.append(f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return "".join(parts) + "</tbody></table></div>"


def details(summary: str, content: str, *, opened: bool = False, of: str = "") -> str:
    """of: what the summary belongs to, said by screen readers only."""
    hidden = f'<span class="unseen"> of {escape(of)}</span>' if of else ""
    return f"<details{' open' if opened else ''}><summary>{escape(summary)}{hidden}</summary>{content}</details>"


def setting(value: Any) -> str:
    """A value of the configuration as in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(setting(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Numbers and names as a person reads them, in the terminal and on the page."""

import math
from collections.abc import Collection, Mapping, Sequence
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
    """``1 image``, ``12,936 images``, ``2 identities``. nouns: the plural, where neither -s nor -ies for -y makes it."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {nouns or (noun[:-1] + 'ies' if noun.endswith('y') else noun + 's')}"


def first_line(error: BaseException) -> str:
    """Of what another library says; its kind where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,), rule: bool = True) -> str:
    """Columns as wide as their widest cell; those in ``left`` to the left, the others to the right.

    rule: whether a line parts the head from the rows.
    """
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(aligned).rstrip()

    rules = ["─" * (sum(widths) + 2 * (len(widths) - 1))] if rule else []
    return "\n".join([line(head), *rules, *map(line, rows)])


def setting(value: Any) -> str:
    """A value of the configuration as in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(setting(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def protocol_name(metrics: Mapping[str, Any]) -> str:
    """How accuracies were measured, from what `distreid.evaluation.measure` gave: 'single query', 'single gallery shot, 20 splits',
    'between two cameras, 10 draws', 'single query, without cameras'. '' where they do not say, as in the first runs."""
    name, splits = metrics.get("protocol", ""), metrics.get("splits")
    spoken, times = {
        "single_query": ("single query", ""),
        "single_shot": ("single gallery shot", "split"),
        "cross_camera": ("between two cameras", "draw"),
    }.get(name, (str(name), ""))
    spoken += ", without cameras" if metrics.get("cameras") is False else ""
    return f"{spoken}, {plural(int(splits), times)}" if times and splits else spoken


def protocol_of(result: Mapping[str, Any]) -> str:
    """How a run's target was tested, from result.json or as much of it as there is; '' where it was not, or does not say."""
    tested = [metrics for metrics in (result.get("direct_transfer"), *result.get("rounds", [])) if metrics and "mAP" in metrics]
    return protocol_name(tested[-1]) if tested else ""

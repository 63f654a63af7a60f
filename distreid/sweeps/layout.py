"""From runs' results to a table's cells: ours beside the paper's, mean and deviation over seeds, differences of rows by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

Pair = list[float | None]  # the paper's two figures in percent, mAP and Rank-1 unless the table names others
Ours = list[float]  # one run's
Cell = list[Ours | None]  # of each seed; None: no such run


@dataclass(frozen=True)
class Row:
    """paper: a pair for each of the paper's transfers, or None. settings: what makes the row ours, None where it is not ours."""

    name: str
    paper: list[Pair | None]
    settings: dict[str, Any] | None
    measure: str
    supervised: bool


def measured(result: dict[str, Any], measure: str, figures: Sequence[str], reverse: bool) -> Ours | None:
    """The figures of a run's result.json. reverse: of the other direction of a test between two cameras."""
    final, direct = result.get("final"), result.get("direct_transfer")
    if measure == "gain":
        return [100 * (final[key] - direct[key]) for key in figures] if final and direct else None
    if measure == "decline":
        rounds = [line for line in result.get("rounds", []) if "mAP" in line]
        return [100 * (final[key] - max(line[key] for line in rounds)) for key in figures] if final and rounds else None
    if measure.startswith("round "):
        number = int(measure.removeprefix("round "))
        metrics = next((line for line in result.get("rounds", []) if line["round"] == number and "mAP" in line), None)
    else:
        metrics = {"final": final, "direct_transfer": direct}[measure]
    if metrics and reverse:
        metrics = metrics["reverse"]
    return [100 * metrics[key] for key in figures] if metrics else None


def lay_out(
    rows: Sequence[Row],
    ours: Sequence[Sequence[Cell]],
    titles: Sequence[str],
    paper: Sequence[str],
    apart: bool,
    figures: Sequence[str],
) -> tuple[list[str], list[list[str]]]:
    """Head and lines: the paper's and our figures of each transfer side by side, or ours apart, where they are of other data."""
    printed = any(pair for row in rows for pair in row.paper)
    groups = [(title, "paper", number) for number, title in enumerate(paper) if printed]
    mine = [(title, "ours", number) for number, title in enumerate(titles)]
    order = groups + mine if apart else sorted(groups + mine, key=lambda group: group[2])
    head = ["", *(f"{title}, {whose} {name}" for title, whose, _ in order for name in figures)]
    lines = []
    for row, cells in zip(rows, ours, strict=True):
        line = [row.name]
        for _, whose, number in order:
            if whose == "paper":
                pair = row.paper[number] or [None, None]
                line += ["–" if value is None else f"{value:.1f}" for value in pair]
            else:
                line += spread(cells[number])
        lines.append(line)
    return head, lines


def spread(cell: Cell, sign: str = "") -> list[str]:
    """mean ± sample deviation of either figure, and of how many seeds where not of all; one seed has no deviation."""
    found = [pair for pair in cell if pair is not None]
    if not found:
        return ["–", "–"]
    part = f" ({len(found)} of {len(cell)})" if len(found) < len(cell) else ""
    columns = list(zip(*found, strict=True))
    return [f"{mean(values):{sign}.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "") + part for values in columns]


def differences(
    rows: Sequence[Row],
    ours: Sequence[Sequence[Cell]],
    titles: Sequence[str],
    claims: Sequence[tuple[str, str]],
    figures: Sequence[str],
) -> list[str]:
    """What the paper claims, tested by our runs: for each claim that one row is above another a line of differences between runs
    of one seed. What both share, such as the source model and the test set, cancels there.

    Args:
        claims: names of rows, the better first.
    """
    cells = {row.name: line for row, line in zip(rows, ours, strict=True)}
    lines = []
    for better, other in claims:
        for title, here, there in zip(titles, cells[better], cells[other], strict=True):
            pairs = zip(here, there, strict=True)
            cell: Cell = [[a - b for a, b in zip(one, two, strict=True)] if one and two else None for one, two in pairs]
            if any(cell):
                found = ", ".join(f"{name} {value}" for name, value in zip(figures, spread(cell, "+"), strict=True))
                lines.append(f"{better} − {other}{f', {title}' if len(titles) > 1 else ''}: {found}")
    return lines

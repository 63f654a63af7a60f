"""sweep.html: what was chosen, how quality and the oracle go with every swept setting, every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from distreid.report.sweep import Curves, HeatMap, write_sweep_page
from distreid.sweeps.rows import Row, cell

_FIGURES = (("quality", "quality × 100"), ("oracle_mAP", "oracle mAP"), ("oracle_rank1", "oracle Rank-1"))


def write_page(out: Path, rows: Sequence[Row], search: Mapping[str, Any], advice: Sequence[str]) -> None:
    """Write the page of a sweep. search: the swept keys."""
    done = [row for row in rows if row["status"] == "finished"]
    keys = [key for key in search if key != "seed" and len(_levels(done, key)) > 1]
    drawings: list[Curves | HeatMap] = [_curves(done, key) for key in keys]
    if len(keys) == 2:
        drawings += [
            _map(done, keys[0], keys[1], figure, name) for figure, name in _FIGURES[:2] if any(figure in row for row in done)
        ]
    counts = {
        status: sum(row["status"] == status for row in rows) for status in ("finished", "failed", "stopped early", "unfinished")
    }
    tiles = [(status, str(count), "trials") for status, count in counts.items() if count]
    names = ["status", *search, "round", "clusters", "outliers", "quality", "agreement", "oracle_mAP", "oracle_rank1", "reason"]
    lines = [[row["trial"], *(cell(row.get(name)) for name in names)] for row in rows]
    note = (
        "quality: mean silhouette in Jaccard distance over all target images at the last round's labels, an outlier counting 0. "
        "agreement: adjusted Rand index with the round before. Columns that begin with oracle are target test accuracies: they "
        "judge the choice, and nothing is chosen by them."
    )
    write_sweep_page(out, out.parent.name, ". ".join(advice) + ".", tiles, drawings, (["trial", *names], lines), note)


def _levels(rows: Sequence[Row], key: str) -> list[Any]:
    values = list({str(row[key]): row[key] for row in rows if key in row}.values())
    numbers = all(isinstance(value, (int, float)) for value in values)
    return sorted(values) if numbers else values


def _mean(rows: Sequence[Row], figure: str, **at: Any) -> float | None:
    found = [row[figure] for row in rows if row.get(figure) is not None and all(row.get(key) == value for key, value in at.items())]
    return 100 * mean(found) if found else None


def _curves(rows: Sequence[Row], key: str) -> Curves:
    levels = _levels(rows, key)
    lines = {
        name: [_mean(rows, figure, **{key: level}) for level in levels]
        for figure, name in _FIGURES
        if any(figure in row for row in rows)
    }
    caption = (
        "Mean over the other settings and seeds, last round. The oracle's lines are target test accuracies, shown to judge by."
    )
    return Curves(key, caption, key, [cell(level) for level in levels], "percent", lines)


def _map(rows: Sequence[Row], first: str, second: str, figure: str, name: str) -> HeatMap:
    across, down = _levels(rows, second), _levels(rows, first)
    values = [[_mean(rows, figure, **{first: a, second: b}) for b in across] for a in down]
    return HeatMap(
        name, "Mean over seeds, last round.", second, [cell(b) for b in across], first, [cell(a) for a in down], values, 1
    )

"""The report: one self-contained HTML page of a run, or of several side by side, from what the run directories hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distreid.files import atomic_write
from distreid.report.compare import render_comparison
from distreid.report.page import render
from distreid.report.pictures import Attended, Cloud, Cluster, Crop, Grid, Pictures, RankList
from distreid.report.read import read_run

__all__ = ["Attended", "Cloud", "Cluster", "Crop", "Grid", "Pictures", "RankList", "write_comparison", "write_report"]


def write_report(
    run: Path, *, out: Path | None = None, defaults: dict[str, Any] | None = None, pictures: Pictures | None = None
) -> Path:
    """Writes `<run>/report.html`, or `out`, atomically, and returns its path. Unfinished runs are reported as far as they are.

    defaults: the configuration's defaults (nested, as in config.yaml); with them the page shows first what differs.
    pictures: images and features, which a higher floor computes; without them the page has the charts and tables alone.

    Raises UserError where the folder is not a run, one of its files is damaged, or the page cannot be written.
    """
    return _write(out or run / "report.html", render(read_run(run), defaults, pictures))


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Writes one page of several runs: accuracies, curves over rounds, and the settings in which they differ."""
    return _write(out, render_comparison([read_run(run) for run in runs]))


def _write(file: Path, page: str) -> Path:
    with atomic_write(file) as stream:
        stream.write(page.encode())
    return file

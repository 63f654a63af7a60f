"""The report: one self-contained HTML page of a run, of several side by side, or of a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distreid.methods.exhibits import Pictures
from distreid.report.compare import comparison_page
from distreid.report.html import write_page
from distreid.report.page import run_page
from distreid.report.read import read_run

__all__ = ["write_comparison", "write_report"]


def write_report(
    run: Path, *, out: Path | None = None, defaults: dict[str, Any] | None = None, pictures: Pictures | None = None
) -> Path:
    """Writes `<run>/report.html`, or `out`, atomically, and returns its path. Unfinished runs are reported as far as they are.

    defaults: the configuration's defaults (nested, as in config.yaml); with them the page shows first what differs.
    pictures: images and features (`distreid.methods.pictures`); without them the page has the charts and tables alone.

    Raises UserError where the folder is not a run, one of its files is damaged, or the page cannot be written.
    """
    return write_page(out or run / "report.html", run_page(read_run(run), defaults, pictures))


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Writes one page of several runs: accuracies, curves over rounds, and the settings in which they differ."""
    return write_page(out, comparison_page([read_run(run) for run in runs]))

"""The report of a run: one self-contained HTML page from what the run directory holds."""

from pathlib import Path
from typing import Any

from distreid.files import atomic_write
from distreid.report.page import render
from distreid.report.read import read_run

__all__ = ["write_report"]


def write_report(run: Path, *, defaults: dict[str, Any] | None = None) -> Path:
    """Writes `<run>/report.html`, atomically, and returns its path. Unfinished runs are reported as far as they are.

    defaults: the configuration's defaults (nested, as in config.yaml); with them the page shows first what differs.

    Raises UserError where the folder is not a run, one of its files is damaged, or the page cannot be written.
    """
    file = run / "report.html"
    page = render(read_run(run), defaults).encode()
    with atomic_write(file) as stream:
        stream.write(page)
    return file

"""The report of a run: one self-contained HTML page from what the run directory holds."""

import os
from pathlib import Path
from typing import Any

from distreid.errors import UserError
from distreid.report.page import render
from distreid.report.read import read_run

__all__ = ["write_report"]


def write_report(run: Path, *, defaults: dict[str, Any] | None = None) -> Path:
    """Writes `<run>/report.html`, atomically, and returns its path. Unfinished runs are reported as far as they are.

    defaults: the configuration's defaults (nested, as in config.yaml); with them the page shows first what differs.

    Raises UserError where the folder is not a run, one of its files is damaged, or the page cannot be written.
    """
    page = render(read_run(run), defaults)
    file = run / "report.html"
    temporary = run / f".report.html.{os.getpid()}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(page)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from None
    finally:
        temporary.unlink(missing_ok=True)
    return file

"""`distreid report`."""

from __future__ import annotations

from pathlib import Path


def report(run: str, /, *others: str, out: Path | None = None) -> None:
    """Write a run's report.html; of several runs, one page that compares them.

    Args:
        run: A run directory; a path or a URI.
        others: More of them.
        out: RUN/report.html when empty, or comparison.html beside the first run.
    """
    from distreid.actions.train import report as write
    from distreid.common.layout import page_files
    from distreid.common.mirror import on_this_machine

    print(write([on_this_machine(place, page_files) for place in (run, *others)], out))

"""`distreid status`."""

from __future__ import annotations

from distreid.common.terminal import show


def status(run: str, /) -> None:
    """Where a run stands: its step, the time left, the figures so far.

    Args:
        run: A run directory; a path or a URI.
    """
    from distreid.actions.status import status as text

    show(text(run))

"""`distreid status`."""

from __future__ import annotations


def status(run: str, /) -> None:
    """Where a run stands: its step, the time left, the figures so far.

    Args:
        run: A run directory; a path or a URI.
    """
    from distreid.remote import on_this_machine
    from distreid.status import status as text

    print(text(on_this_machine(run)))

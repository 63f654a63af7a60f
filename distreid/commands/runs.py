"""`distreid runs`."""

from __future__ import annotations

from pathlib import Path

from distreid.common.terminal import show


def runs(folder: Path = Path("runs"), /) -> None:
    """List the runs in a folder.

    Args:
        folder: Looked through at any depth.
    """
    from distreid.actions.status import runs as text

    show(text(folder))

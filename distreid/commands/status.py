"""`distreid status`."""

from __future__ import annotations

import json

from distreid.commands.options import Json
from distreid.common.terminal import show


def status(run: str, /, *, as_json: Json = False) -> None:
    """Where a run stands: its step, the time left, the figures so far.

    Args:
        run: A run directory; a path or a URI.
    """
    from distreid.actions.status import status as text
    from distreid.actions.status import status_record

    if as_json:
        print(json.dumps(status_record(run)))
        return
    show(text(run))

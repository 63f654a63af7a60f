"""`distreid doctor`."""

from __future__ import annotations

import json
from pathlib import Path

from distreid.commands.options import Json


def doctor(*, folder: Path = Path("runs"), as_json: Json = False) -> None:
    """What this machine can do, what a run will use here, and what to mend.

    Args:
        folder: Where runs would be written: its free space is looked at.
    """
    from distreid.actions.doctor import diagnose

    found = diagnose(folder)
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("ok", "green"), "note": ("note", "yellow"), "mend": ("MEND", "bold red")}
    page = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for wraps in (False, False, True):
        page.add_column(no_wrap=not wraps)
    section = ""
    for finding in found.findings:
        if finding.section != section:
            section = finding.section
            page.add_row("", "", "")
            page.add_row("", Text(section, style="bold"), "")
        page.add_row(Text(*marks[finding.state]), finding.name, Text(finding.text))
        if finding.advice:
            page.add_row("", "", Text(f"→ {finding.advice}", style="yellow"))
    console = Console(highlight=False)
    console.print(page, width=None if console.is_terminal else 120)

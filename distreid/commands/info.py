"""`distreid info`."""

from __future__ import annotations

from pathlib import Path

from distreid.commands.options import Pattern
from distreid.common.terminal import show


def info(file: str, /, *, format: str | None = None, pattern: Pattern = "", sheet: Path | None = None) -> None:
    """What a data set holds.

    Args:
        file: The packed file, NAME.arrow; or a folder or table, with --format.
        format: How to read a folder or table: see `distreid pack --help`.
        sheet: Also write a contact sheet, NAME.png.
    """
    from distreid.data import ImageStore, contact_sheet, describe, format_description

    if format is not None:
        from distreid.actions.train import packed
        from distreid.config import DomainConfig

        file = packed(DomainConfig(data=file, format=format, pattern=pattern)).data
    store = ImageStore.open(file)
    show(format_description(describe(store)))
    if sheet is not None:
        contact_sheet(store, sheet)
        print(f"contact sheet: {sheet}")

"""`distreid info`."""

from __future__ import annotations

from pathlib import Path

from distreid.common.terminal import show


def info(file: str, /, *, sheet: Path | None = None) -> None:
    """What a packed data set holds.

    Args:
        file: The packed file, NAME.arrow.
        sheet: Also write a contact sheet, NAME.png.
    """
    from distreid.data import ImageStore, contact_sheet, describe, format_description

    store = ImageStore.open(file)
    show(format_description(describe(store)))
    if sheet is not None:
        contact_sheet(store, sheet)
        print(f"contact sheet: {sheet}")

"""`distreid translate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from distreid.commands.options import Checkpoint, Many


def translate(
    checkpoint: Checkpoint,
    out: Path,
    /,
    *,
    data: str | None = None,
    format: str = "market1501",
    reverse: bool = False,
    splits: Annotated[tuple[str, ...], Many] = ("train",),
    truth: Path | None = None,
    target_truth: Path | None = None,
) -> None:
    """Put a data set into another domain's style with a trained EDAAN.

    Args:
        out: Folder for images.arrow and masks.arrow.
        data: Packed file, or the data set's folder; the run's own source when empty.
        format: How to read --data when it is a folder: see `distreid pack --help`.
        reverse: From the target's style to the source's.
        splits: Which of train, query and gallery.
        truth: Folder of true foreground masks (`distreid synth --masks`), to measure what changed.
        target_truth: The other domain's, to compare the backgrounds' colours.
    """
    from distreid.remote import on_this_machine
    from distreid.terminal import translation_text
    from distreid.translation import translate as run

    done = run(
        on_this_machine(checkpoint), data, format, out, reverse=reverse, splits=splits, truth=truth, target_truth=target_truth
    )
    print(translation_text(*done))

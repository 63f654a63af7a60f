"""`distreid translate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distreid.commands.options import Checkpoint, Many, Pattern


def translate(
    checkpoint: Checkpoint,
    out: Path,
    /,
    *,
    data: str | None = None,
    format: str = "market1501",
    pattern: Pattern = "",
    reverse: bool = False,
    splits: Annotated[tuple[str, ...], Many] = ("train",),
    ground_truth: Annotated[Path | None, Parameter(name=("--ground-truth", "--truth"))] = None,
    target_ground_truth: Annotated[Path | None, Parameter(name=("--target-ground-truth", "--target-truth"))] = None,
) -> None:
    """Put a data set into another domain's style with a trained translator.

    Args:
        out: Folder for images.arrow and masks.arrow.
        data: Packed file, or a folder or table; the run's own source when empty.
        format: How to read --data when it is not packed: see `distreid pack --help`.
        reverse: From the target's style to the source's.
        splits: Which of train, query and gallery.
        ground_truth: Folder of true foreground masks (`distreid synth --masks`), to measure what changed.
        target_ground_truth: The other domain's, to compare the backgrounds' colours.
    """
    from distreid.actions.translate import translate as run
    from distreid.common.layout import model_files
    from distreid.common.mirror import on_this_machine
    from distreid.report.text import translation_text

    done = run(
        on_this_machine(checkpoint, model_files),
        data,
        format,
        out,
        pattern=pattern,
        reverse=reverse,
        splits=splits,
        ground_truth=ground_truth,
        target_ground_truth=target_ground_truth,
    )
    print(translation_text(*done))

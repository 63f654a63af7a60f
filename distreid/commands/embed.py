"""`distreid embed`."""

from __future__ import annotations

from pathlib import Path

from distreid.commands.options import Checkpoint, Flip, Pattern


def embed(
    checkpoint: Checkpoint,
    /,
    *,
    data: str,
    out: Path,
    format: str = "folder",
    pattern: Pattern = "",
    split: str | None = None,
    flip: Flip = False,
) -> None:
    """Features of any folder or packed set, for `distreid score` and `distreid label`.

    Args:
        data: Packed file, or a folder or table.
        out: NAME.npz, with pids, camids and paths, or NAME.npy, the features alone.
        format: How to read it: see `distreid pack --help`.
        split: Only this one: train, query, gallery or spare.
    """
    from distreid.actions.embed import embed as run
    from distreid.common.layout import model_files
    from distreid.common.mirror import on_this_machine

    done = run(on_this_machine(checkpoint, model_files), data, out, format=format, pattern=pattern, split=split, flip=flip)
    splits = ", ".join(f"{count:,} {name}" for name, count in done.splits.items())
    print(f"{done.path}: {done.images:,} images ({splits}), {done.channels} features each, by {done.checkpoint}")

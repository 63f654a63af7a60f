"""`distreid pack`."""

from __future__ import annotations

from distreid.common.terminal import show


def pack(src: str, out: str, /, *, format: str, skip_bad: bool = False) -> None:
    """Check every image of a data set and pack it into one Arrow file.

    Args:
        src: The data set's folder.
        out: The file to write, NAME.arrow.
        format: market1501, dukemtmc, msmt17, cuhk03, cuhk03-detected, prid2011, or folder (unlabelled images).
        skip_bad: Leave out images that cannot be decoded.
    """
    from distreid.common.terminal import bar
    from distreid.data import ImageStore, describe, format_description
    from distreid.data import pack as run

    with bar("packing") as progress:
        run(src, out, format=format, skip_bad=skip_bad, progress=progress)
    show(format_description(describe(ImageStore.open(out))))

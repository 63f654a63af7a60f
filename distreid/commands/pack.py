"""`distreid pack`."""

from __future__ import annotations

from distreid.commands.options import NoCameras, Pattern
from distreid.common.terminal import show


def pack(
    src: str,
    out: str,
    /,
    *,
    format: str,
    pattern: Pattern = "",
    holdout: int | None = None,
    seed: int = 0,
    no_cameras: NoCameras = False,
    skip_bad: bool = False,
) -> None:
    """Check every image of a data set and pack it into one Arrow file.

    Args:
        src: The data set's folder, or a table (CSV, Parquet).
        out: The file to write, NAME.arrow.
        format: market1501, dukemtmc, msmt17, veri776, cuhk03, cuhk03-detected, prid2011; of your own: names (identity and camera in
            each file name), identities (a folder for each), table (columns path, pid, camid, split); unlabelled: cameras (a folder
            for each), folder.
        holdout: Make so many identities a test set, of a set that has none.
        seed: Of --holdout: which identities are drawn.
        skip_bad: Leave out images that cannot be decoded.
    """
    from distreid.common.terminal import bar
    from distreid.data import ImageStore, describe, format_description
    from distreid.data import pack as run

    how = {"format": format, "pattern": pattern, "holdout": holdout, "seed": seed, "no_cameras": no_cameras}
    with bar("packing") as progress:
        run(src, out, skip_bad=skip_bad, progress=progress, **how)  # type: ignore[arg-type]
    show(format_description(describe(ImageStore.open(out))))

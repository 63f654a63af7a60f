"""`distreid query`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distreid.commands.options import Checkpoint, Flip, Pattern
from distreid.common.terminal import show


def query(
    checkpoint: Checkpoint,
    image: str,
    other: str | None = None,
    /,
    *,
    gallery: str | None = None,
    format: str = "folder",
    pattern: Pattern = "",
    top: int = 20,
    threshold: float | None = None,
    flip: Flip = False,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    html: Path | None = None,
) -> None:
    """Search images by image: rank lists, or whether two images show the same person.

    Args:
        image: The query image, or a folder of them.
        other: A second image: says whether the two are taken for the same person, and searches nothing.
        gallery: Where to search: packed file, or a folder or table; the run's own target when empty.
        format: How to read a gallery that is not packed: see `distreid pack --help`.
        top: Images of each rank list.
        threshold: Cosine similarity above which two images are taken for the same person; calibrated without labels on
            the run's target when empty.
        json_file: Also write everything that was found to this file.
        html: Also write a page with the pictures.
    """
    from distreid.actions.query import query as run
    from distreid.common.files import check_writable
    from distreid.common.layout import model_files
    from distreid.common.mirror import on_this_machine
    from distreid.report.query import search_text, write_search_page
    from distreid.training.files import write_json

    check_writable(json_file, html)
    found = run(
        on_this_machine(checkpoint, model_files), image, other,
        gallery=gallery, format=format, pattern=pattern, top=top, threshold=threshold, flip=flip, pictures=html is not None,
    )  # fmt: skip
    if json_file is not None:
        write_json(json_file, found.as_dict())
    if html is not None:
        write_search_page(html, found)
    show(search_text(found))
    for file in filter(None, (json_file, html)):
        show(f"written: {file}")

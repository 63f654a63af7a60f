"""CUHK03 (Li et al., CVPR 2014), under either of its protocols, with the labeled or the detected boxes.

The original download, ``cuhk-03.mat``, brings the classic 1367/100 protocol (see `cuhk03_mat`). CUHK03-NP's folders ``labeled`` and
``detected`` bring the 767/700 one (Zhong et al., CVPR 2017). The format's name chooses the boxes of the former, the root's those of
the latter.
"""

import re
from dataclasses import replace
from pathlib import Path

from distreid.common.errors import UserError
from distreid.data.readers.cuhk03_mat import read_classic
from distreid.data.readers.flat import FlatLayout, read_flat
from distreid.data.readers.published import Published
from distreid.data.records import Dataset

MAT = "cuhk-03.mat"

LABELED = FlatLayout(
    title="CUHK03-NP",
    format="cuhk03",
    name=re.compile(r"(?P<pid>\d{1,9})_c(?P<camid>[12])_\d+\."),
    example="0001_c1_21.png",
    published={"train": Published(7_368, 767), "query": Published(1_400, 700), "gallery": Published(5_328, 700)},
    cameras=2,
    has_junk=False,
)
DETECTED = replace(
    LABELED,
    format="cuhk03-detected",
    published={"train": Published(7_365, 767), "query": Published(1_400, 700), "gallery": Published(5_332, 700)},
)


def read_labeled(root: Path) -> Dataset:
    """``--format cuhk03``: the .mat file's labeled boxes, or whichever of CUHK03-NP's folders the root is."""
    mat = _find_mat(root)
    if mat is not None:
        return read_classic(mat, "labeled")
    return _read_np(root, DETECTED if root.resolve().name == "detected" else LABELED)


def read_detected(root: Path) -> Dataset:
    """``--format cuhk03-detected``: the detected boxes."""
    mat = _find_mat(root)
    if mat is not None:
        return read_classic(mat, "detected")
    if root.resolve().name == "labeled":
        raise UserError(f"{root}: holds the labeled boxes; give the folder detected beside it, or --format cuhk03")
    return _read_np(root, DETECTED)


def _find_mat(root: Path) -> Path | None:
    places = (root, root / MAT, root / "cuhk03_release" / MAT)
    return next((place for place in places if place.name == MAT and place.is_file()), None)


def _read_np(root: Path, layout: FlatLayout) -> Dataset:
    """Camids 1 and 2 as in the file names. Raises `UserError` for a folder with the counts of both kinds of boxes: a mixture."""
    dataset = read_flat(root, layout)
    other = LABELED if layout is DETECTED else DETECTED
    counts = {split: sum(record.split == split for record in dataset.records) for split in layout.published}
    # The two kinds differ in these splits only; the queries are as many.
    telling = [split for split in ("train", "gallery") if layout.published[split].images != counts[split]]
    mixed = [split for split in telling if other.published[split].images == counts[split]]
    if len(mixed) == 1 and len(telling) == 1:
        raise UserError(
            f"{root}: {mixed[0]} has the {counts[mixed[0]]:,} images of {_kind(other)}, the rest those of "
            f"{_kind(layout)}: two versions mixed; unpack one again"
        )
    if len(mixed) == 2:
        raise UserError(f"{root}: holds the images of {_kind(other)}, not of {_kind(layout)}; name the folder {_kind(other)}")
    return dataset


def _kind(layout: FlatLayout) -> str:
    return "detected" if layout is DETECTED else "labeled"

"""CUHK03 (Li et al., CVPR 2014) under the 767/700 protocol (Zhong et al., CVPR 2017), as the image folders of CUHK03-NP.

The root is one of CUHK03-NP's two folders, ``labeled`` or ``detected``.
"""

import re
from dataclasses import replace
from pathlib import Path

from distreid.data.readers.flat import FlatLayout, Published, read_flat
from distreid.data.records import Dataset
from distreid.errors import UserError

LABELED = FlatLayout(
    title="CUHK03-NP",
    format="cuhk03",
    name=re.compile(r"(?P<pid>\d{1,9})_c(?P<camid>[12])_\d+\."),
    example="0001_c1_21.png",
    published={"train": Published(7_368, 767), "query": Published(1_400, 700), "gallery": Published(5_328, 700)},
    has_junk=False,
)
DETECTED = replace(
    LABELED,
    published={"train": Published(7_365, 767), "query": Published(1_400, 700), "gallery": Published(5_332, 700)},
)


def read(root: Path) -> Dataset:
    """Camids 1 and 2 as in the file names. Raises `UserError` for the original .mat file, which is not read yet."""
    for mat in (root / "cuhk-03.mat", root / "cuhk03_release" / "cuhk-03.mat"):
        if mat.exists():
            raise UserError(
                f"{mat}: the classic 1367/100 protocol is not supported yet; give CUHK03-NP's folder labeled or detected"
            )
    return read_flat(root, DETECTED if root.resolve().name == "detected" else LABELED)

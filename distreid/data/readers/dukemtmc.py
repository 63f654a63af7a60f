"""DukeMTMC-reID (Zheng et al., ICCV 2017; Ristani et al., 2016)."""

import re
from dataclasses import replace
from pathlib import Path

from distreid.data.readers.flat import FlatLayout, read_flat
from distreid.data.readers.published import Published
from distreid.data.records import Dataset

# 702 of the gallery's identities are queried, 408 more were seen by one camera only and are there to distract.
LAYOUT = FlatLayout(
    title="DukeMTMC-reID",
    format="dukemtmc",
    name=re.compile(r"(?P<pid>\d{1,9})_c(?P<camid>\d{1,4})_f\d+\."),
    example="0001_c2_f0046182.jpg",
    published={"train": Published(16_522, 702), "query": Published(2_228, 702), "gallery": Published(17_661, 1_110)},
    cameras=8,
    has_junk=False,
)
WITHDRAWN = "DukeMTMC-reID was withdrawn by its authors in 2019: mind whether, and how, you may still use your copy"


def read(root: Path) -> Dataset:
    """Camids 1..8 as in the file names."""
    dataset = read_flat(root, LAYOUT)
    return replace(dataset, notes=(*dataset.notes, WITHDRAWN))

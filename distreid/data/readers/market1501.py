"""Market-1501 (Zheng et al., ICCV 2015), and any set in its layout, such as the drawn ones."""

import re
from pathlib import Path

from distreid.data.readers.flat import FlatLayout, read_flat
from distreid.data.readers.published import Published
from distreid.data.records import Dataset

# The gallery's 19,732 images are 13,115 of 750 people, 2,798 distractors (0000) and 3,819 junk boxes (-1).
LAYOUT = FlatLayout(
    title="Market-1501",
    format="market1501",
    name=re.compile(r"(?P<pid>-1|\d{1,9})_c(?P<camid>\d{1,4})s\d+_\d+_\d+\."),
    example="0002_c1s1_000451_03.jpg",
    published={"train": Published(12_936, 751), "query": Published(3_368, 750), "gallery": Published(19_732, 750)},
    cameras=6,
    has_junk=True,
)


def read(root: Path) -> Dataset:
    """Camids 1..6 as in the file names; junk (-1) is left out, distractors (0000) stay in the gallery."""
    return read_flat(root, LAYOUT)

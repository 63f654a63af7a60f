"""VeRi-776 (Liu et al., ECCV 2016): vehicles, in three flat folders of its own names."""

import re
from pathlib import Path

from distreid.data.readers.flat import FlatLayout, read_flat
from distreid.data.readers.published import Published
from distreid.data.records import Dataset

# The queries stand in the gallery, too, where the protocol leaves them out as images of the query's own camera.
LAYOUT = FlatLayout(
    title="VeRi-776",
    format="veri776",
    name=re.compile(r"(?P<pid>\d{1,9})_c(?P<camid>\d{1,4})_\d+_\d+\."),
    example="0002_c002_00030600_0.jpg",
    published={"train": Published(37_778, 576), "query": Published(1_678, 200), "gallery": Published(11_579, 200)},
    cameras=20,
    has_junk=False,
    folders={"train": "image_train", "query": "image_query", "gallery": "image_test"},
    names_repeat=True,
)


def read(root: Path) -> Dataset:
    """Camids 1..20 as in the file names."""
    return read_flat(root, LAYOUT)

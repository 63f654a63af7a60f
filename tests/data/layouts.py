"""Tiny data sets in the layouts of the real ones, made of noise."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from distreid.data.packing import pack
from distreid.data.store import ImageStore

MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


def noise(path: Path, width: int = 8, height: int = 16) -> Path:
    """An image that depends on its name only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()))
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def market(root: Path, **names: Iterable[str]) -> Path:
    """``market(root, train=["0002_c1s1_000451_03.jpg"], ...)``."""
    for split, files in names.items():
        for name in files:
            noise(root / MARKET_FOLDERS[split] / name)
    return root


def market_name(pid: int, camid: int, frame: int) -> str:
    return f"{pid:04d}_c{camid}s1_{frame:06d}_01.jpg" if pid >= 0 else f"-1_c{camid}s1_{frame:06d}_01.jpg"


def small_market(root: Path) -> Path:
    """Four training identities in cameras 1 to 3, two test identities, a distractor and junk."""
    return market(
        root,
        train=[market_name(pid, camid, frame) for pid in (2, 7, 9, 11) for camid in (1, 2, 3) for frame in (5, 10)],
        query=[market_name(pid, camid, 100) for pid in (3, 4) for camid in (1, 2)],
        gallery=[market_name(pid, camid, 200) for pid in (3, 4, 0, -1) for camid in (1, 2)],
    )


def packed(root: Path, out: Path, format: str = "market1501") -> ImageStore:
    pack(root, out, format=format, workers=1)
    return ImageStore.open(out)

"""Tiny data sets in the layouts of the real ones, made of noise."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distreid.common.errors import UserError
from distreid.data.packing import pack
from distreid.data.readers import read_dataset
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


def packed(root: Path, out: Path, format: str = "market1501", **how: Any) -> ImageStore:
    pack(root, out, format=format, workers=1, **how)
    return ImageStore.open(out)


def prid(root: Path, shared: int = 4, only_a: int = 1, only_b: int = 3) -> Path:
    """People 1 .. shared in both cameras, the next in A only, the last in B only."""
    people = {
        "cam_a": range(1, 1 + shared + only_a),
        "cam_b": [*range(1, 1 + shared), *range(1 + shared + only_a, 1 + shared + only_a + only_b)],
    }
    for camera, pids in people.items():
        for pid in pids:
            noise(root / "single_shot" / camera / f"person_{pid:04d}.png")
    return root


def cuhk03_mat(path: Path, people: tuple[int, ...] = (6, 4), testsets: int = 3, tested: int = 4, seed: int = 0) -> Path:
    """``cuhk-03.mat`` as MATLAB 7.3 writes it: cells are HDF5 references, axes are reversed, an empty cell holds its size.

    Everybody has images 1, 2 and 6 of both kinds of boxes; the first person of each pair has no second view, and detected boxes
    lack image 2. The images are small noise, 3 × width × height as stored.
    """
    import h5py

    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")

        def store(name: str, value: np.ndarray) -> h5py.Reference:
            return refs.create_dataset(name, data=value).ref

        empty = store("empty", np.zeros(2, np.uint64))
        refs["empty"].attrs["MATLAB_empty"] = np.uint8(1)
        for kind, columns in (("labeled", (0, 1, 5)), ("detected", (0, 5))):
            pairs = []
            for pair, count in enumerate(people):
                images = np.full((10, count), empty, dtype=h5py.ref_dtype)
                for person in range(count):
                    for column in columns if person else columns[:-1]:
                        pixels = rng.integers(0, 256, (3, 8 + person, 16 + column), dtype=np.uint8)
                        images[column, person] = store(f"{kind}{pair}_{person}_{column}", pixels)
                pairs.append(refs.create_dataset(f"{kind}{pair}", data=images, dtype=h5py.ref_dtype).ref)
            file.create_dataset(kind, data=np.array([pairs], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
        everyone = [(pair + 1, person + 1) for pair, count in enumerate(people) for person in range(count)]
        lists = [store(f"testset{number}", rng.permutation(everyone)[:tested].T.astype(float)) for number in range(testsets)]
        file.create_dataset("testsets", data=np.array([lists], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
    return path


def refused(root: Path, *words: str, format: str = "market1501", pattern: str = "") -> None:
    """The reader's complaint is one line that holds all the words."""
    with pytest.raises(UserError) as error:
        read_dataset(root, format, pattern)
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


OWN = {(pid, camid): 2 + (pid + camid) % 2 for pid in (2, 5, 9, 11) for camid in (1, 2, 3)} | {(12, 1): 2}
"""Images of (pid, camid) in people's own layouts below: identity 12 was seen by one camera only."""


def own_images() -> list[tuple[int, int, int]]:
    """(pid, camid, number) of every image of `OWN`."""
    return [(pid, camid, number) for (pid, camid), count in OWN.items() for number in range(count)]


def own_names(root: Path) -> Path:
    """``day/p5-cam2-0.jpg``."""
    for pid, camid, number in own_images():
        noise(root / "day" / f"p{pid}-cam{camid}-{number}.jpg")
    return root


OWN_NAMES = r"p(?P<pid>\d+)-cam(?P<camid>\d+)"


def own_identities(root: Path, person: str = "{:03d}") -> Path:
    """``005/cam2-0.jpg``."""
    for pid, camid, number in own_images():
        noise(root / person.format(pid) / f"cam{camid}-{number}.jpg")
    return root


OWN_CAMERAS = r"^cam(?P<camid>\d+)-"


def own_cameras(root: Path, camera: str = "cam{}") -> Path:
    """``cam2/5-0.jpg``."""
    for pid, camid, number in own_images():
        noise(root / camera.format(camid) / f"{pid}-{number}.jpg")
    return root


def own_table(root: Path, text: str = "", name: str = "people.csv") -> Path:
    """A CSV beside the images of `own_names`, of ``text`` or of all of them."""
    own_names(root)
    rows = [f"day/p{pid}-cam{camid}-{number}.jpg,{pid},{camid}" for pid, camid, number in own_images()]
    (root / name).write_text(text or "\n".join(["path,pid,camid", *rows]))
    return root / name

"""PRID2011 (Hirzer et al., SCIA 2011), single-shot: one image a person and camera.

200 people were seen by both cameras, 185 more by A only and 549 more by B only. The benchmark draws 100 of the 200 for testing, ten
times over, and looks each up among B's other 649 people. The split read here is one such draw, the simplest: the first
100 of the 200 train; the others are queried from A in the gallery of B. A's remaining people are ``spare``.
"""

import re
from pathlib import Path

from distreid.data.readers.files import find_root, flat_images, plural, sample
from distreid.data.records import SPLITS, Dataset, Record
from distreid.errors import UserError

CAMERAS = {"cam_a": 1, "cam_b": 2}
PUBLISHED = {"cam_a": 385, "cam_b": 749}
NAME = re.compile(r"person_(?P<pid>\d{1,9})\.")


def read(root: Path) -> Dataset:
    """Camera A is camid 1, B is 2. Raises `UserError` for a wrong root, names that do not parse, a person twice in a camera."""
    find_root(root, ["single_shot"], "PRID2011")
    people: dict[str, dict[int, Path]] = {}
    notes: list[str] = []
    for camera, published in PUBLISHED.items():
        folder = root / "single_shot" / camera
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; PRID2011 needs both cameras, finish the download")
        people[camera] = _people(folder)
        count = len(people[camera])
        compared = "as published" if count == published else f"PRID2011 as published: {published}"
        notes.append(f"{camera}: {plural(count, 'image')} ({compared})")
    shared = sorted(people["cam_a"].keys() & people["cam_b"].keys())
    if len(shared) < 4:
        raise UserError(f"{root}: {plural(len(shared), 'person')} seen by both cameras, too few to train and test")
    trained, queried = set(shared[: len(shared) // 2]), set(shared[len(shared) // 2 :])
    notes.append(f"{len(shared)} people seen by both cameras: the first {len(trained)} train, the others are queried from A in B")
    records = [
        Record(path, pid, CAMERAS[camera], _split(camera, pid, trained, queried))
        for camera, images in people.items()
        for pid, path in images.items()
    ]
    records.sort(key=lambda record: (SPLITS.index(record.split), record.path.as_posix()))
    return Dataset(root.resolve().name, "prid2011", root, tuple(records), tuple(notes))


def _people(folder: Path) -> dict[int, Path]:
    paths, _ = flat_images(folder)
    people: dict[int, Path] = {}
    bad: list[str] = []
    for path in paths:
        match = NAME.match(path.name)
        if match is None:
            bad.append(path.name)
        elif people.setdefault(int(match["pid"]), path) != path:
            raise UserError(f"{folder}: {people[int(match['pid'])].name} and {path.name} show the same person; keep one of them")
    if bad:
        raise UserError(
            f"{folder}: {plural(len(bad), 'file name')} not of the form person_0001.png: {sample(bad)}; rename or remove them"
        )
    return people


def _split(camera: str, pid: int, trained: set[int], queried: set[int]) -> str:
    if pid in trained:
        return "train"
    if camera == "cam_b":
        return "gallery"
    return "query" if pid in queried else "spare"

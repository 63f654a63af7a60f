"""PRID2011 (Hirzer et al., SCIA 2011), single-shot: one image a person and camera.

200 people were seen by both cameras, 185 more by A only and 549 more by B only. The benchmark draws 100 of the 200 for testing, ten
times over, and looks each up in one camera among the other's people: A in B has a gallery of 649, B in A one of 285. The rest of
the 200 train. Its draws were not published; these are made with fixed seeds and recorded in the packed file.
"""

import re
from pathlib import Path

import numpy as np

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.data.readers.files import find_root, flat_images, sample
from distreid.data.readers.published import Published, compare
from distreid.data.records import SPLITS, Dataset, Protocol, Record

CAMERAS = {"cam_a": 1, "cam_b": 2}
PUBLISHED = {"cam_a": Published(385, 385), "cam_b": Published(749, 749)}
SHARED, TRIALS = 200, 10
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
        notes.append(compare(camera, Published(count, count), published, "PRID2011"))
    shared = sorted(people["cam_a"].keys() & people["cam_b"].keys())
    if len(shared) < 4:
        raise UserError(f"{root}: {plural(len(shared), 'person')} seen by both cameras, too few to train and test")
    test_pids = _draws(shared)
    compared = "as published" if len(shared) == SHARED else f"PRID2011 as published: {SHARED}"
    notes.append(
        f"{len(shared)} people seen by both cameras ({compared}): {len(test_pids[0])} of them drawn for testing, {TRIALS} times; "
        "the splits shown are the first draw's"
    )
    trained = set(shared) - set(test_pids[0])
    records = [
        Record(path, pid, CAMERAS[camera], _split(camera, pid, trained, set(test_pids[0])))
        for camera, images in people.items()
        for pid, path in images.items()
    ]
    records.sort(key=lambda record: (SPLITS.index(record.split), record.path.as_posix()))
    return Dataset(root.resolve().name, "prid2011", root, tuple(records), tuple(notes), Protocol("cross_camera", test_pids))


def _draws(shared: list[int]) -> tuple[tuple[int, ...], ...]:
    """Half of the people for each trial."""
    orders = [np.random.default_rng([2011, trial]).permutation(shared) for trial in range(TRIALS)]
    return tuple(tuple(sorted(order[: len(shared) // 2].tolist())) for order in orders)


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

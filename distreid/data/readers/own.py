"""People's own images: labelled by names or by a folder for each identity, or unlabelled with a folder for each camera.

Where the root holds folders of splits (`SPLIT_FOLDERS`), labelled images are read from those; else all are for training.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.data.readers.files import by_path, check_folder, is_image, no_image, sample, walk_files
from distreid.data.readers.labelled import WHOLE, Found, in_order, make_dataset
from distreid.data.readers.patterns import camid_of, compile_pattern, match_all, pid_of
from distreid.data.records import UNKNOWN, Dataset

MARKET_LIKE = r"^(?P<pid>-1|\d+)_[cC](?P<camid>\d+)"
"""The names that most sets after Market-1501 have: ``0002_c1s1_000451_03.jpg``, ``0002_c012_00075750_0.jpg``."""

SPLIT_FOLDERS = {
    "train": ("train", "bounding_box_train", "image_train"),
    "query": ("query", "image_query"),
    "gallery": ("gallery", "bounding_box_test", "image_test"),
}


def read_names(root: Path, pattern: str = "") -> Dataset:
    """``--format names``: identity, and camera if need be, from each file's name; at any depth.

    ``pattern`` is searched for in the name, or in the path below the root (or split folder) if it has a ``/``; its groups are pid
    and camid. Pid -1 is nobody. Raises `UserError` for a bad pattern, names that do not match, and cameras that are no whole
    number.
    """
    compiled = compile_pattern(pattern or MARKET_LIKE, "pid")
    images, folders, others, notes = _images(root)
    matches = match_all(root, list(images), lambda path: folders[images[path]], compiled)
    found = [
        Found(path, pid_of(match), camid_of(match, root), split)
        for (path, split), match in zip(images.items(), matches, strict=True)
    ]
    if all(one.pid is None for one in found):
        raise UserError(f"{root}: the pattern '{compiled.pattern}' finds no identity in any name; mend it")
    return make_dataset(root.resolve().name, "names", root, found, notes, others)


def read_identities(root: Path, pattern: str = "") -> Dataset:
    """``--format identities``: a folder for each identity, with images at any depth; cameras by ``pattern``'s group camid.

    Raises `UserError` as `read_names`, and for images beside the folders of identities.
    """
    compiled = compile_pattern(pattern, "camid") if pattern else None
    if compiled and "pid" in compiled.groupindex:
        raise UserError(f"pattern '{pattern}' has a group pid, but the folders name the identities; use --format names")
    images, folders, others, notes = _images(root)
    names = _top_folders(images, folders, "identity")
    camids = [UNKNOWN] * len(images)
    if compiled:
        camids = [camid_of(match, root) for match in match_all(root, list(images), lambda path: folders[images[path]], compiled)]
    found = [Found(path, names[path], camid, split) for (path, split), camid in zip(images.items(), camids, strict=True)]
    return make_dataset(root.resolve().name, "identities", root, found, notes, others)


def read_cameras(root: Path) -> Dataset:
    """``--format cameras``: a folder for each camera, identities unknown.

    A camera has the number in its folder's name where each holds one and all differ (``cam1``), else one in the names' order.
    Raises `UserError` for images beside the folders of cameras.
    """
    images, others = list_images(root)
    names = _top_folders(dict.fromkeys(images, "train"), {"train": root}, "camera")
    cameras = set(names.values())
    digits = {name: found[0] for name in cameras if len(found := re.findall(r"\d+", name)) == 1 and WHOLE.fullmatch(found[0])}
    if len(set(map(int, digits.values()))) == len(cameras):
        numbers: Mapping[str, int] = {name: int(own) for name, own in digits.items()}
        said = [f"cameras: {sample([f'{name} = {numbers[name]}' for name in sorted(cameras, key=numbers.__getitem__)], 8)}"]
    else:
        numbers, said = in_order(cameras, "camera")
    found = [Found(path, None, numbers[names[path]], "train") for path in images]
    return make_dataset(root.resolve().name, "cameras", root, found, said, others)


def read_folder(root: Path, pattern: str = "") -> Dataset:
    """``--format folder``: every image below the root, identities unknown; cameras by ``pattern``'s group camid, if given."""
    images, others = list_images(root)
    if not pattern:
        return make_dataset(
            root.resolve().name, "folder", root, [Found(path, None, UNKNOWN, "train") for path in images], (), others
        )
    compiled = compile_pattern(pattern, "camid")
    if "pid" in compiled.groupindex:
        raise UserError(f"pattern '{pattern}' has a group pid, but --format folder reads no identities; use --format names")
    matches = match_all(root, images, lambda path: root, compiled)
    found = [Found(path, None, camid_of(match, root), "train") for path, match in zip(images, matches, strict=True)]
    return make_dataset(root.resolve().name, "folder", root, found, (), others)


def list_images(root: Path) -> tuple[list[Path], list[str]]:
    """All images below ``root``, sorted, and the names of other files there. Raises `UserError` if there is no image."""
    check_folder(root)
    files = list(walk_files(root))
    images = by_path(path for path in files if is_image(path.name))
    others = [path.name for path in files if not is_image(path.name)]
    if not images:
        raise no_image(root, others)
    return images, others


def _images(root: Path) -> tuple[dict[Path, str], dict[str, Path], list[str], list[str]]:
    """Each image's split, each split's folder, names of other files, and a warning if there are folders beside those of splits."""
    check_folder(root)
    folders = {split: root / name for split, names in SPLIT_FOLDERS.items() for name in names if (root / name).is_dir()}
    if "train" not in folders and not {"query", "gallery"} <= folders.keys():
        folders = {"train": root}
    images: dict[Path, str] = {}
    others: list[str] = []
    for split, folder in folders.items():
        own, rest = list_images(folder)
        images |= dict.fromkeys(own, split)
        others += rest
    beside = sorted(path.name for path in root.iterdir() if path.is_dir() and path not in folders.values())
    ignored = folders != {"train": root} and [name for name in beside if not name.startswith(".")]
    return images, folders, others, [f"warning: not in a folder of a split, ignored: {sample(ignored)}"] if ignored else []


def _top_folders(images: dict[Path, str], folders: dict[str, Path], noun: str) -> dict[Path, str]:
    """The folder that each image lies in, directly below its split's. Raises `UserError` for images that lie in none."""
    parts = {path: path.relative_to(folders[split]).parts for path, split in images.items()}
    beside = [path for path, names in parts.items() if len(names) == 1]
    if beside:
        raise UserError(
            f"{beside[0].parent}: {plural(len(beside), 'image')} in no folder of an own {noun}: "
            f"{sample([path.name for path in beside])}; put them into one, or choose another format"
        )
    return {path: names[0] for path, names in parts.items()}

"""MSMT17 (Wei et al., CVPR 2018), both releases: V1, and V2 with blurred faces.

Four text files list the images of the training, validation, query and gallery sets. Training images are those of the first two,
as is usual when the set is adapted to or from. Many copies hold the same images in Market-1501's three folders, without lists.
"""

import codecs
import re
from collections import Counter
from pathlib import Path

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.data.readers.files import find_root, is_image, sample, walk_files
from distreid.data.readers.flat import FOLDERS, FlatLayout, read_flat
from distreid.data.readers.published import Published, camera_note, compare, counted, is_nearly, lonely_queries
from distreid.data.records import Dataset, Record

VERSIONS = {"V1": {"train": "train", "test": "test"}, "V2": {"train": "mask_train_v2", "test": "mask_test_v2"}}
LISTS = {"list_train.txt": "train", "list_val.txt": "train", "list_query.txt": "query", "list_gallery.txt": "gallery"}
PUBLISHED = {"train": Published(32_621, 1_041), "query": Published(11_659, 3_060), "gallery": Published(82_161, 3_060)}
CAMERAS = 15
LINE = re.compile(r"(?P<path>(?:[^/].*/)?\d+_\d+_(?P<camid>\d{1,4})_[^/]+?)\s+(?P<pid>\d{1,9})")
MARKET_LIKE = FlatLayout(
    title="MSMT17",
    format="msmt17",
    name=re.compile(r"(?P<pid>\d{1,9})_(?:\d+_|c)(?P<camid>\d{1,4})[_s]"),  # the original names, or Market-1501's
    example="0000_000_01_0303morning_0015_0.jpg",
    published=PUBLISHED,
    cameras=CAMERAS,
    has_junk=False,
    names_repeat=True,
    numbered_anew=True,
)


def read(root: Path) -> Dataset:
    """Camids 1..15 from the file names. Test identities are numbered from 0 again: they are other people than the training ones.

    Reads the lists, or Market-1501's folders where these are there and the lists' are not. Raises `UserError` for a wrong root, two
    releases in one folder, lines that do not parse, and listed images that are missing or listed twice.
    """
    if not _has_folders(root) and any((root / name).is_dir() for name in FOLDERS.values()):
        return read_flat(root, MARKET_LIKE)
    find_root(root, [*LISTS, FOLDERS["train"]], "MSMT17")
    folders = _folders(root)
    records: list[Record] = []
    notes: list[str] = []
    for name, split in LISTS.items():
        if (root / name).is_file():
            records += _read_list(root / name, root / folders["train" if split == "train" else "test"], split)
        else:
            notes.append(f"no {name}: its images are not used")
    _check_files(records, root, [root / folder for folder in folders.values()], notes)
    order = list(PUBLISHED)
    records.sort(key=lambda record: (order.index(record.split), record.path.as_posix()))
    here = counted(records, PUBLISHED)
    notes += [compare(split, here[split], PUBLISHED[split], "MSMT17") for split in PUBLISHED]
    if any(is_nearly(here[split], PUBLISHED[split]) for split in PUBLISHED):
        notes += camera_note(records, CAMERAS, "MSMT17")
    notes += lonely_queries(records)
    return Dataset(root.resolve().name, "msmt17", root, tuple(records), tuple(notes))


def _has_folders(root: Path) -> bool:
    return any((root / folder).is_dir() for folders in VERSIONS.values() for folder in folders.values())


def _folders(root: Path) -> dict[str, str]:
    found = {
        version: folders for version, folders in VERSIONS.items() if any((root / folder).is_dir() for folder in folders.values())
    }
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UserError(f"{root}: holds both V1 (train, test) and V2 (mask_train_v2, mask_test_v2); keep one of them")
    raise UserError(f"{root}: lists but no images: expected the folders train and test, or mask_train_v2 and mask_test_v2")


def _read_list(path: Path, folder: Path, split: str) -> list[Record]:
    lines = [line.strip() for line in _text(path).splitlines()]
    matches = [(number, line, LINE.fullmatch(line)) for number, line in enumerate(lines, start=1) if line]
    bad = [f"line {number} '{line[:60]}'" for number, line, match in matches if match is None]
    if bad:
        raise UserError(
            f"{path}: {plural(len(bad), 'line')} not of the form '0000/0000_000_01_0303morning_0015_0.jpg 0': {sample(bad)}"
        )
    if not matches:
        raise UserError(f"{path}: the list is empty; finish the download or remove the file")
    return [
        Record(_place(folder, match["path"]), int(match["pid"]), int(match["camid"]), split) for _, _, match in matches if match
    ]


def _text(path: Path) -> str:
    """As Windows' editors write it, too: UTF-16 or UTF-8 with a byte order mark."""
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig", errors="backslashreplace")


def _place(folder: Path, name: str) -> Path:
    """Where a list's image lies: some lists name the folder itself first (``train/0000/…``)."""
    inside = name.removeprefix(f"{folder.name}/")
    return folder / (name if inside == name or (folder / name).exists() else inside)


def _check_files(records: list[Record], root: Path, folders: list[Path], notes: list[str]) -> None:
    """Compares the lists with what is on disk."""
    listed = Counter(record.path for record in records)
    twice = [path.relative_to(root).as_posix() for path, count in listed.items() if count > 1]
    if twice:
        raise UserError(f"{root}: {plural(len(twice), 'image')} listed more than once: {sample(twice)}; mend the lists")
    on_disk = {path for folder in folders if folder.is_dir() for path in walk_files(folder) if is_image(path.name)}
    missing = [path.relative_to(root).as_posix() for path in listed if path not in on_disk]
    if missing:
        raise UserError(
            f"{root}: {len(missing):,} of {plural(len(listed), 'listed image')} missing: {sample(missing)}; "
            "finish the download or unpacking"
        )
    if len(on_disk) > len(listed):
        notes.append(f"{plural(len(on_disk) - len(listed), 'image')} in no list ignored")

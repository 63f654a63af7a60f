"""What all readers share: listing images in a fixed order, and one-line errors about folders and file names."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from distreid.common.errors import UserError
from distreid.common.text import plural

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"})
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
JUNK_NAMES = frozenset({"thumbs.db", "desktop.ini"})
JUNK_FOLDERS = frozenset({"__MACOSX", "@eaDir"})


def is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def is_junk(name: str) -> bool:
    """Files that operating systems leave behind; nobody needs to hear about them. Dot files include macOS's ``._x.jpg``."""
    return name.startswith(".") or name.lower() in JUNK_NAMES


def sample(names: Sequence[object], count: int = 3) -> str:
    """The first few of many, for a message: ``a, b, c and 7 more``."""
    shown = ", ".join(str(name) for name in names[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count:,} more"


def check_folder(root: Path) -> None:
    """Raises `UserError` unless ``root`` is a folder with something in it."""
    if not root.exists():
        raise UserError(f"{root}: no such folder; check the path")
    if not root.is_dir():
        table = " or, for a table, --format table" if root.suffix.lower() in TABLE_SUFFIXES else ""
        raise UserError(f"{root}: is a file; give the folder that holds the data set{table}")
    if not any(root.iterdir()):
        raise UserError(f"{root}: the folder is empty; give the folder that holds the data set")


def walk_files(root: Path) -> Iterator[Path]:
    """Every file below ``root``, junk left out; follows links to folders, each real folder once."""

    def stop(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=stop, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in JUNK_FOLDERS)
        yield from (Path(folder, name) for name in names if not is_junk(name))


def by_path(paths: Iterable[Path]) -> list[Path]:
    """Sorted by the path's text with ``/`` between the parts, which is the same on every system and in every locale."""
    return sorted(paths, key=lambda path: path.as_posix())


def flat_images(folder: Path) -> tuple[list[Path], list[str]]:
    """The images directly in ``folder``, sorted, and the names of other files there. Raises `UserError` if there are none."""
    names = sorted(path.name for path in folder.iterdir() if not is_junk(path.name))
    images = [folder / name for name in names if is_image(name)]
    if images:
        return images, [name for name in names if not is_image(name) and (folder / name).is_file()]
    nested = next((path for path in walk_files(folder) if is_image(path.name)), None)
    if nested is not None:
        raise UserError(
            f"{folder}: its images lie in folders of their own ({nested.relative_to(folder)}); put them into {folder.name} itself, "
            "with the identity and the camera in each name, or read them by --format identities (a folder for each) or, without "
            "identities, --format folder"
        )
    others = f" but {others_note(names)}" if names else ""
    raise UserError(f"{folder}: holds no image{others}; finish the download or remove the folder")


def no_image(root: Path, others: Sequence[str]) -> UserError:
    """The complaint about a folder with no image in it or below it; ``others`` are the names of the files that are there."""
    found = f", but {others_note(others)}" if others else ""
    return UserError(f"{root}: no image in it or below it (.jpg, .png, .bmp, .gif, .tif, .webp, .ppm){found}; check the path")


def others_note(names: Iterable[str]) -> str:
    """``3 other files (2 .jp2, 1 .txt)``: files that no reader takes for images, by their endings."""
    endings = Counter(Path(name).suffix.lower() or "without ending" for name in names)
    listed = [f"{count:,} {ending}" for ending, count in sorted(endings.items())]
    return f"{plural(sum(endings.values()), 'other file')} ({sample(listed, 6)})"


def find_root(root: Path, expected: Sequence[str], title: str) -> None:
    """Checks that ``root`` holds at least one of the ``expected`` names; else says which, and where they seem to be.

    People point one level too low (into ``bounding_box_train``) or one too high (at the folder they unpacked into).
    """
    check_folder(root)
    if any((root / name).exists() for name in expected):
        return
    wanted = f"{title} has {', '.join(expected)}"
    above = root.resolve().parent
    if any((above / name).exists() for name in expected):
        raise UserError(f"{root}: this is a part of the data set ({wanted}); give the folder above it, {above}")
    below = [child for child in by_path(root.iterdir()) if any((child / name).exists() for name in expected)]
    if below:
        raise UserError(f"{root}: {wanted}, and none is here; did you mean {below[0]}?")
    raise UserError(
        f"{root}: does not look like {title}: expected {', '.join(expected)} in it; check the path or the format"
        " (names and identities read labelled images of your own, folder any images, without identities)"
    )

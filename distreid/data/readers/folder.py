"""A plain folder of crops: no identities, no cameras, any sub-folders. The unlabelled target that people really have."""

from pathlib import Path

from distreid.common.errors import UserError
from distreid.data.readers.files import by_path, check_folder, is_image, others_note, plural, walk_files
from distreid.data.records import UNKNOWN, Dataset, Record


def read(root: Path) -> Dataset:
    """Every image below ``root`` as training image with unknown pid and camid."""
    check_folder(root)
    files = list(walk_files(root))
    images = by_path(path for path in files if is_image(path.name))
    if not images:
        found = f", but {others_note(path.name for path in files)}" if files else ""
        raise UserError(f"{root}: no image in it or below it (.jpg, .png, .bmp, .gif, .tif, .webp, .ppm){found}; check the path")
    notes = [f"train: {plural(len(images), 'image')}, identities and cameras unknown"]
    others = [path.name for path in files if not is_image(path.name)]
    if others:
        notes.append(f"{others_note(others)} ignored")
    records = tuple(Record(path, UNKNOWN, UNKNOWN, "train") for path in images)
    return Dataset(root.resolve().name, "folder", root, records, tuple(notes))

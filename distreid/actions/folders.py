"""A folder of pictures for each cluster, to look through."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distreid.common.errors import UserError
from distreid.common.files import check_free, draft_of, writing
from distreid.data import ImageStore
from distreid.data.readers.files import is_image, sample


@dataclass(frozen=True)
class Images:
    """names: of the pictures, as the data set has them; content: a picture by its place among them, as a file or a file's bytes."""

    names: Sequence[str]
    content: Callable[[int], Path | memoryview]


def images_of(place: str, paths: Sequence[str]) -> Images:
    """The pictures at ``paths`` below a folder, or of a packed file. `UserError` where one of them is not there."""
    root = Path(place)
    if root.is_dir():
        images = Images(paths, lambda at: (root / paths[at]).resolve())
        missing = [path for path in paths if not (root / path).is_file()]
    else:
        store = ImageStore.open(place)
        row_of = {path: row for row, path in enumerate(store.paths.tolist())}
        images = Images(paths, lambda at: store.encoded(row_of[paths[at]]))
        missing = [path for path in paths if path not in row_of]
    if missing:
        raise UserError(f"{place}: {len(missing):,} of the {len(paths):,} pictures are not there: {sample(missing)}; mend --images")
    return images


def write_folders(out: Path, labels_N: np.ndarray, images: Images) -> str:
    """Make ``out``, whole or not at all: cluster-00, … and no-cluster, with links to their pictures, copies where there can be no
    links, files of what is packed; returns which of the three. A picture is named by its path in the data set, with _ for /.
    """
    check_free(out)
    draft, digits, kinds = draft_of(out), max(2, len(str(int(labels_N.max(initial=0))))), set()
    taken: set[Path] = set()
    try:
        with writing(out):
            for at, cluster in enumerate(labels_N.tolist()):
                file = draft / ("no-cluster" if cluster < 0 else f"cluster-{cluster:0{digits}}") / _file_name(images.names[at])
                while file in taken:  # a/b_c.jpg and a_b/c.jpg
                    file = file.with_name(f"{at}_{file.name}")
                taken.add(file)
                file.parent.mkdir(parents=True, exist_ok=True)
                content = images.content(at)
                kinds.add(link_or_copy(file, content) if isinstance(content, Path) else _written(file, content))
            draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return " and ".join(sorted(kinds))


def _file_name(path: str) -> str:
    """The end of the path where it is long: file systems take names of up to 255 bytes."""
    name = path.replace("/", "_").replace("\\", "_")
    name = name if is_image(name) else f"{name}.png"  # what was packed from an array
    return name.encode()[-200:].decode(errors="ignore")


def link_or_copy(file: Path, content: Path) -> str:
    """What ``file`` has become. Some file systems know no links."""
    try:
        file.symlink_to(content)
        return "links"
    except OSError:
        shutil.copyfile(content, file)
        return "copies"


def _written(file: Path, content: memoryview) -> str:
    file.write_bytes(content)
    return "files"

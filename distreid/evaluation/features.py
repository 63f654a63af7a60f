"""What evaluation is given: one feature vector, one identity and one camera for every image."""

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError

JUNK = -1  # the pid of a junk box, as in Market-1501
UNKNOWN = -1  # the camid of an image whose camera nobody noted
_KEYS = ("features", "pids", "camids")
_ROWS = 4096  # rows looked at together, so that a memory-mapped matrix is never copied whole


@dataclass(frozen=True, eq=False)
class Features:
    """Features with their labels, checked once.

    features: float32 [n, d]; other float types are converted. Memory-mapped float32 stays on disk.
    pids: int64 [n], identities; -1 marks junk (ignored in a gallery). Market-1501's distractors (pid 0) need no rule of
        their own: no query carries that pid, so they are negatives, and data sets that count from 0 work too.
    camids: int64 [n]; -1 means unknown, which never counts as "the same camera".

    Raises UserError where shapes or lengths disagree, where a value is NaN or infinite, and where the features have
    collapsed (all rows equal up to float32 rounding): a score of those would be an accident of the gallery's order.
    """

    features: NDArray[np.float32]
    pids: NDArray[np.int64]
    camids: NDArray[np.int64]

    def __post_init__(self) -> None:
        features_ND = np.asanyarray(self.features)
        if features_ND.ndim != 2 or 0 in features_ND.shape:
            raise UserError(f"features must be a non-empty matrix [images, dimensions], not {list(features_ND.shape)}")
        if features_ND.dtype.kind != "f":
            raise UserError(f"features must be float16, float32 or float64, not {features_ND.dtype}")
        with np.errstate(over="ignore"):  # a float64 too large becomes inf and is reported below
            features_ND = np.ascontiguousarray(features_ND, dtype=np.float32)
        object.__setattr__(self, "features", features_ND)
        for name in ("pids", "camids"):
            object.__setattr__(self, name, _labels(name, getattr(self, name), len(features_ND)))
        _check_values(features_ND)

    def __len__(self) -> int:
        return len(self.pids)

    def take(self, rows: NDArray[Any]) -> "Features":
        """The images that an index or boolean array [n] selects, in that order."""
        return self._part(self.features[rows], self.pids[rows], self.camids[rows])

    def with_camids(self, camids: NDArray[np.int64]) -> "Features":
        """The same images from other cameras, int64 [n]."""
        return self._part(self.features, self.pids, camids)

    def _part(self, *arrays: NDArray[Any]) -> "Features":
        part = object.__new__(Features)  # already checked: a part of good features may well have a single row
        for name, array in zip(_KEYS, arrays, strict=True):
            object.__setattr__(part, name, array)
        return part


def knows_cameras(side: Features) -> bool:
    """Whether any image's camera is known."""
    return bool((side.camids != UNKNOWN).any())


def apart(query: Features, gallery: Features) -> tuple[Features, Features]:
    """Both sides with a camera of its own for each image, so that a query leaves out nothing but itself.

    The query itself is what has its features, bit for bit: it may stand in the gallery, too.
    """
    numbers: dict[bytes, int] = {}
    sides = []
    for side in (query, gallery):
        digests = (hashlib.blake2b(row, digest_size=16).digest() for row in side.features)
        sides.append(side.with_camids(np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], dtype=np.int64)))
    return sides[0], sides[1]


def load_npz(path: str | Path, *, no_cameras: bool = False) -> Features:
    """Reads `features` float16|32|64 [n, d], `pids` and `camids` int [n] from an .npz file; nothing is unpickled.

    no_cameras: every camera is unknown, whether the file has camids or not.

    Raises UserError, naming the file, where it is missing, truncated, no .npz, lacks an array or holds bad values.
    """
    path = Path(path)
    arrays = _read_npz(path, _KEYS[:2] if no_cameras else _KEYS)
    if no_cameras and "pids" in arrays:
        arrays["camids"] = np.full(arrays["pids"].shape, UNKNOWN)
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        advice = "; --no-cameras does without them" if missing == ["camids"] else ""
        with np.load(path, allow_pickle=False) as archive:
            raise UserError(f"{path}: lacks {', '.join(missing)}; it holds {', '.join(archive.files) or 'nothing'}{advice}")
    try:
        return Features(**arrays)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def load_protocol(path: str | Path) -> tuple[str, list[list[int]]]:
    """What an .npz of query features may carry beside them: `protocol`, a text, and `test_pids`, int [splits, identities].

    Returns "single_query" and no splits where it carries none. Raises UserError, naming the file, for arrays of another kind.
    """
    path = Path(path)
    arrays = _read_npz(path, ("protocol", "test_pids"))
    name, test_pids = arrays.get("protocol", np.array("single_query")), arrays.get("test_pids", np.empty((0, 0), int))
    if name.shape or name.dtype.kind != "U":
        raise UserError(f"{path}: protocol must be one text, not {name.dtype} {list(name.shape)}")
    if test_pids.ndim != 2 or test_pids.dtype.kind not in "iu":
        raise UserError(f"{path}: test_pids must be integers [splits, identities], not {test_pids.dtype} {list(test_pids.shape)}")
    return str(name), test_pids.tolist()


def _read_npz(path: Path, keys: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Those of the arrays that the file holds."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected an .npz with {', '.join(_KEYS)}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not an .npz (truncated, or another format); write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys if key in archive.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not a readable .npz (damaged, or not plain numbers): {error}") from error


def _labels(name: str, values: Any, images: int) -> NDArray[np.int64]:
    labels_N = np.asarray(values)
    if labels_N.dtype.kind not in "iu":
        raise UserError(f"{name} must be integers, not {labels_N.dtype}")
    if labels_N.shape != (images,):
        raise UserError(f"{name} has shape {list(labels_N.shape)} but there are {images} features: one label a row")
    labels_N = labels_N.astype(np.int64)
    if labels_N.min() < -1:
        raise UserError(f"{name} holds {labels_N.min()}; the only negative value with a meaning is -1")
    return labels_N


def _check_values(features_ND: NDArray[np.float32]) -> None:
    first_D = features_ND[0]
    collapsed = len(features_ND) > 1
    for start in range(0, len(features_ND), _ROWS):
        rows_BD = features_ND[start : start + _ROWS]
        finite_BD = np.isfinite(rows_BD)
        if not finite_BD.all():
            row = start + int(np.argmin(finite_BD.all(axis=1)))
            raise UserError(f"features row {row} holds NaN or infinity: look at the model or the image behind it")
        if collapsed:
            # Batches of another size move a float32 result in its last bits: those differences carry no identity.
            collapsed = bool(np.abs(rows_BD - first_D).max() <= 1e-6 * np.abs(first_D).max())
    if collapsed:
        raise UserError(f"features have collapsed: all {len(features_ND)} rows are the same; there is nothing to rank")

"""Features in, labels out: .npy and .npz without pickle."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.common.files import atomic_write

if TYPE_CHECKING:
    from distreid.labels.api import PseudoLabels


def load_features(path: str | Path) -> NDArray[np.floating]:
    """Features [N, D] of an .npy (memory-mapped) or of the `features` array of an .npz; float16, float32 or float64.

    UserError names the file when it is missing, empty, truncated, pickled, or holds anything but a 2-D float array.
    """
    features = _load(Path(path), "features")
    if features.ndim != 2 or features.dtype not in (np.float16, np.float32, np.float64):
        raise UserError(
            f"{path}: features must be [N, D] of float16, float32 or float64, not {features.dtype}{list(features.shape)}"
        )
    return features


def load_camids(path: str | Path) -> NDArray[np.integer]:
    """Cameras [N] of an .npy or of the `camids` array of an .npz; whole numbers. UserError as `load_features`."""
    camids = _load(Path(path), "camids")
    if camids.ndim != 1 or not np.issubdtype(camids.dtype, np.integer):
        raise UserError(f"{path}: camids must be [N] of whole numbers, not {camids.dtype}{list(camids.shape)}")
    return camids


def _load(path: Path, name: str) -> NDArray:
    if path.suffix not in (".npy", ".npz"):
        raise UserError(f"{path}: {name} are read from .npy or .npz, not from {path.suffix or 'a file without ending'}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; write it again")
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as archive:
            if name not in archive:
                raise UserError(f"{path}: no array named '{name}' (found: {', '.join(archive) or 'nothing'})")
            return archive[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"{path}: the file is truncated or damaged, or holds pickled objects, which are not read; write it again with numpy"
        ) from error


def save_labels(path: str | Path, labels: "PseudoLabels") -> None:
    """Write `labels`, `centers` and `eps` as an .npz, atomically. UserError when it cannot be written."""
    with atomic_write(Path(path)) as stream:
        np.savez(stream, labels=labels.labels, centers=labels.centers, eps=np.float64(labels.eps))

"""Features in, labels out: .npy and .npz without pickle."""

import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distreid.errors import UserError


def load_features(path: str | Path) -> NDArray[np.floating]:
    """Features [N, D] of an .npy (memory-mapped) or of the `features` array of an .npz; float16, float32 or float64.

    UserError names the file when it is missing, empty, truncated, pickled, or holds anything but a 2-D float array.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".npz"):
        raise UserError(f"{path}: features are read from .npy or .npz, not from {path.suffix or 'a file without ending'}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; write it again")
    try:
        if path.suffix == ".npy":
            features = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with np.load(path, allow_pickle=False) as archive:
                if "features" not in archive:
                    raise UserError(f"{path}: no array named 'features' (found: {', '.join(archive) or 'nothing'})")
                features = archive["features"]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"{path}: the file is truncated or damaged, or holds pickled objects, which are not read; write it again with numpy"
        ) from error
    if features.ndim != 2 or features.dtype not in (np.float16, np.float32, np.float64):
        raise UserError(
            f"{path}: features must be [N, D] of float16, float32 or float64, not {features.dtype}{list(features.shape)}"
        )
    return features


def write_npz(path: Path, **arrays: NDArray[np.generic] | np.generic) -> None:
    """Write an .npz under a temporary name, then put it in place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)

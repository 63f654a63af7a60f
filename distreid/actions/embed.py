"""Features of any folder or packed set, in the form that `distreid score` and `distreid label` read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distreid.actions.evaluate import network_features
from distreid.actions.train import open_packed
from distreid.common.errors import UserError
from distreid.common.files import atomic_write, check_writable
from distreid.config import DomainConfig
from distreid.data.loader import View
from distreid.methods.networks import load_model

SUFFIXES = (".npz", ".npy")


@dataclass(frozen=True)
class Embedded:
    """What was written: number of images, the dimension, and the checkpoint that made the features."""

    path: Path
    checkpoint: Path
    images: int
    channels: int
    splits: dict[str, int]


def embed(
    checkpoint: Path,
    data: str,
    out: Path,
    *,
    format: str = "folder",
    pattern: str = "",
    split: str | None = None,
    flip: bool = False,
) -> Embedded:
    """Write f_sh of every image of ``data`` to ``out``.

    An ``.npz`` holds `features` float32 [n, c] (not normalised), `pids` and `camids` int64 [n] (-1 unknown), `paths` and `splits`
    text [n]; an ``.npy`` holds the features alone, in the order of the paths.

    Args:
        data: packed file, or a folder or table, which is read as ``format`` and ``pattern`` say and packed into the user's cache.
        split: keep only this one: train, query, gallery or spare.
        flip: average the features of each image and its mirror image.

    Raises:
        UserError: unknown ending or split, unreadable data or checkpoint, features that are not finite.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"{out}: features are written to {' or '.join(SUFFIXES)}")
    check_writable(out)
    store = open_packed(DomainConfig(data=data, format=format, pattern=pattern))
    counts = {str(name): int((store.splits == name).sum()) for name in dict.fromkeys(store.splits)}
    if split is not None and split not in counts:
        raise UserError(f"{data}: has no split '{split}'; it has {', '.join(counts)}")
    rows = np.arange(len(store)) if split is None else np.flatnonzero(store.splits == split)
    model, config, file = load_model(checkpoint)
    features_ND = network_features(model, config, View(store, rows), flip=flip)
    with atomic_write(out) as stream:
        if out.suffix == ".npy":
            np.save(stream, features_ND, allow_pickle=False)
        else:
            np.savez(
                stream,
                allow_pickle=False,
                features=features_ND,
                pids=store.pids[rows],
                camids=store.camids[rows],
                paths=store.paths[rows],
                splits=store.splits[rows],
            )
    return Embedded(out, file, len(rows), features_ND.shape[1], counts if split is None else {split: len(rows)})

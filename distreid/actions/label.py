"""`distreid label`: pseudo-labels as numpy's arrays, or as a table that other programs read."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distreid.common.errors import UserError
from distreid.common.files import atomic_write
from distreid.labels import PseudoLabels, save_labels

SUFFIXES = (".npz", ".csv", ".parquet")


def check_out(out: Path) -> None:
    """UserError for a file name that does not say how to write the labels; asked before they are made."""
    if out.suffix not in SUFFIXES:
        raise UserError(f"{out}: labels are written to {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write_labels(out: Path, labels: PseudoLabels, features: Path) -> None:
    """An .npz of labels, centres and eps; or a .csv or .parquet with a row for each feature, in their order: `index` (from 0),
    `path` where the .npz of ``features`` has `paths` (as `distreid embed` writes), and `label` (-1: in no cluster)."""
    check_out(out)
    if out.suffix == ".npz":
        save_labels(out, labels)
        return
    paths = _paths(features, len(labels.labels))
    columns = {"index": np.arange(len(labels.labels)), **({} if paths is None else {"path": paths}), "label": labels.labels}
    with atomic_write(out) as stream:
        if out.suffix == ".parquet":
            pq.write_table(pa.table(columns), stream)
        else:
            text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow(columns)
            rows.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
            text.detach()


def _paths(features: Path, count: int) -> np.ndarray | None:
    if features.suffix != ".npz":
        return None
    with np.load(features, allow_pickle=False) as archive:
        paths = archive.get("paths")
    if paths is not None and paths.shape != (count,):
        raise UserError(f"{features}: {len(paths)} paths for {count} features")
    return paths

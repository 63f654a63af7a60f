"""`distreid label`, and a run's labels for `distreid export`: arrays, a table for other programs, folders to look through."""

from __future__ import annotations

import csv
import dataclasses
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distreid.actions.folders import Images, images_of, write_folders
from distreid.common.errors import UserError
from distreid.common.files import atomic_write, check_free, check_writable
from distreid.common.layout import round_files, round_number
from distreid.data import ImageStore
from distreid.labels import LabelSettings, PseudoLabels, load_camids, load_features, make_pseudo_labels, save_labels
from distreid.labels.members import center_distances, silhouettes
from distreid.labels.settings import label_settings
from distreid.methods.networks import kept_checkpoint
from distreid.training import RunDirectory, load_checkpoint
from distreid.training.domains import open_domain
from distreid.training.files import trained_config

TABLES = (".csv", ".parquet")
SUFFIXES = (".npz", *TABLES)


@dataclass(frozen=True)
class RunLabels:
    """The labels of a run's round; folders: what those hold, "" where none were asked for."""

    round: int
    labels: PseudoLabels
    folders: str


def label(
    features: Path,
    out: Path,
    settings: LabelSettings,
    *,
    camids: str | None = None,
    eps: float | str | None = None,
    device: str | None = None,
    folders: Path | None = None,
    images: str | None = None,
) -> tuple[PseudoLabels, str]:
    """Make pseudo-labels of a file's features and write them to ``out``, by its ending; returns them, and what the folders hold.

    An .npz holds labels, centers and eps; a .csv or .parquet a row for each feature (`table`).

    Args:
        camids: file of the features' cameras: distances are then camera-aware.
        eps: as for `make_pseudo_labels`.
        folders: also make a folder of pictures for each cluster (`distreid.actions.folders`).
        images: the folder or packed file that the features are of, for ``folders``; the features' .npz says which of them.

    Raises:
        UserError: a mistake in the arguments, said before anything is computed or written.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"{out}: labels are written to {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    check_writable(out)
    features_ND = load_features(features)
    paths, known = _kept_with(features, "paths", "U", len(features_ND)), _kept_with(features, "camids", "iu", len(features_ND))
    cameras = None if camids is None else load_camids(camids)
    source = None
    if folders is not None:
        check_free(folders)
        if images is None:
            raise UserError("--folders needs --images FOLDER, or a packed file: where the pictures of these features lie")
        if paths is None:
            raise UserError(f"{features}: has no paths, by which --folders finds pictures; `distreid embed` writes them to an .npz")
        source = images_of(images, paths.tolist())
    elif images is not None:
        raise UserError("--images is for --folders OUT; give both or none")
    labels = make_pseudo_labels(features_ND, settings, camids=cameras, eps=eps, device=device)
    if out.suffix == ".npz":
        save_labels(out, labels)
    else:
        settings = settings if device is None else label_settings(settings, device=device)
        write_table(out, table(labels, features_ND, settings, paths, known if cameras is None else cameras, cameras is not None))
    return labels, "" if source is None or folders is None else write_folders(folders, labels.labels, source)


def export_labels(run: Path, out: Path, *, data: str | None = None, folders: Path | None = None) -> RunLabels:
    """Write the pseudo-labels of a run's latest round as a table (`table`), and a folder of pictures for each cluster.

    Args:
        data: where the packed target lies, if no longer where it was; its content must be the same.

    Raises:
        UserError: the run holds no labels or not the features that they were made of, or its target's data are not there.
    """
    check_writable(out)
    if folders is not None:
        check_free(folders)
    if not run.is_dir():
        raise UserError(f"{run}: labels are kept in run directories; give one")
    saved, kept = load_checkpoint(kept_checkpoint(run)), RunDirectory(run)
    files = round_files(kept.labels)
    if not files:
        raise UserError(f"{run}: holds no pseudo-labels: no round has made any, or its method makes none")
    number, config = round_number(files[-1].name) or 0, trained_config(saved)
    try:
        arrays = kept.load_labels(number)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{run}: the labels of round {number} cannot be read ({error}); copy the folder labels/ again") from None
    domain = config.target if data is None else dataclasses.replace(config.target, data=data)
    target = open_domain(domain, labelled=False, tested=False)
    if saved["content"][1] != target.content:
        raise UserError(f"{target.given}: not the data that {run} was trained on")
    store, rows, settings = target.train.store, target.train.rows, config.labels
    assert isinstance(store, ImageStore)
    labels = PseudoLabels(arrays["labels"], arrays["centers"], float(arrays["eps"]), settings.features == "l2")
    paths = store.paths[rows]
    write_table(out, table(labels, arrays["features_ND"], settings, paths, target.camids, bool(settings.camera_keys)))
    source = Images(paths.tolist(), lambda at: store.encoded(rows[at]))
    return RunLabels(number, labels, "" if folders is None else write_folders(folders, labels.labels, source))


def table(
    labels: PseudoLabels,
    features_ND: np.ndarray,
    settings: LabelSettings,
    paths: np.ndarray | None,
    camids: np.ndarray | None,
    by_camera: bool,
) -> dict[str, np.ndarray]:
    """Columns of one row for each feature, in their order: `index` from 0; `path` and `camid` (−1 unknown) where they are known;
    `cluster` (−1: in none); `distance` to its centre (‖f − C_k‖ of Eq. 4, of L2-normalised features unless labels.features is raw)
    and `silhouette` in Jaccard distance, both NaN for those in no cluster."""
    known = {"path": paths, "camid": camids if camids is not None and (camids >= 0).any() else None}
    fit_N = silhouettes(features_ND, labels.labels, settings, camids=camids if by_camera else None)
    return {
        "index": np.arange(len(labels.labels)),
        **{name: column for name, column in known.items() if column is not None},
        "cluster": labels.labels,
        "distance": center_distances(features_ND, labels.labels, labels.centers, labels.normalized),
        "silhouette": fit_N,
    }


def write_table(out: Path, columns: Mapping[str, np.ndarray]) -> None:
    """As .csv (UTF-8, a head, NaN as an empty cell) or .parquet (NaN as null)."""
    with atomic_write(out) as stream:
        if out.suffix == ".parquet":
            pq.write_table(pa.table({name: pa.array(column, from_pandas=True) for name, column in columns.items()}), stream)
            return
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(columns)
        for row in zip(*(column.tolist() for column in columns.values()), strict=True):
            rows.writerow(["" if cell != cell else cell for cell in row])
        text.detach()


def _kept_with(features: Path, name: str, kinds: str, count: int) -> np.ndarray | None:
    """What an .npz, as `distreid embed` writes it, knows of each feature; None where it has none. kinds: of numpy's types."""
    if features.suffix != ".npz":
        return None
    try:
        with np.load(features, allow_pickle=False) as archive:
            values = archive.get(name)
    except ValueError:
        values = np.empty((), object)  # pickled, and not read
    if values is not None and (values.shape != (count,) or values.dtype.kind not in kinds):
        what = "text" if "U" in kinds else "whole numbers"
        raise UserError(
            f"{features}: {name} must be {what}, one for each of the {count} features, not {values.dtype}{list(values.shape)}"
        )
    return values

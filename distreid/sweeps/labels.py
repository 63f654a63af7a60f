"""`distreid sweep … --labels-only`: a grid over p and min_samples on one set of features, as a file and a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distreid.actions.train import packed, train
from distreid.common.errors import UserError
from distreid.common.terminal import bar
from distreid.common.text import text_table
from distreid.config import load_config
from distreid.labels import LabelSettings, load_features
from distreid.labels.grid import label_grid
from distreid.labels.settings import label_settings
from distreid.methods.local import training_device
from distreid.methods.networks import load_model
from distreid.methods.registry import find
from distreid.methods.thumbnails import store_of
from distreid.report.sweep import HeatMap, write_sweep_page
from distreid.sweeps.rows import Row, write_rows
from distreid.training import Precision, RunDirectory
from distreid.training.domains import open_domain
from distreid.training.features import extract

MIN_SAMPLES = tuple(range(2, 20, 2))  # Figure 6 of the paper


@dataclass(frozen=True)
class Given:
    """Features to label and what is known about them.

    pids_N: int64, true identities (−1 unknown), for the oracle only; None where there are none. out: folder for the results.
    camids_N: int64, the cameras where distances are to be camera-aware; None where they are not.
    """

    name: str
    features_ND: NDArray[np.floating]
    pids_N: NDArray[np.int64] | None
    settings: LabelSettings
    out: Path
    camids_N: NDArray[np.int64] | None = None


def sweep_labels(
    source: Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    ps: Sequence[float] | None = None,
    min_samples: Sequence[int] | None = None,
    k1: int | None = None,
    k2: int | None = None,
    device: str = "cpu",
) -> str:
    """Label one set of features with every p and min_samples; write grid.parquet and grid.html; return what to print.

    Args:
        source: a .npy or .npz of features, a run directory (features of its target by its last finished round), or a
            configuration (features by its source model, which is pre-trained first if need be).
        ps: by default 16 values from an eighth to eight times the configuration's p.
    """
    given = _given(source, overrides, device)
    ps = sorted(ps) if ps else [float(f"{p:.3g}") for p in np.geomspace(given.settings.p / 8, given.settings.p * 8, 16)]
    least = sorted(min_samples or MIN_SAMPLES)
    settings = label_settings(given.settings, **{name: k for name, k in (("k1", k1), ("k2", k2)) if k is not None})
    out = out or given.out
    with bar("neighbours") as progress:
        cells = label_grid(
            given.features_ND, ps, least, settings, pids=given.pids_N, camids=given.camids_N, device=device, progress=progress
        )
        rows = list(cells)
    write_rows(out / "grid.parquet", rows, {"features": given.name, "k1": str(settings.k1), "k2": str(settings.k2)})
    advice = _advice(rows)
    _write_page(out / "grid.html", given, rows, ps, least, advice)
    head = f"{given.name}: {len(given.features_ND):,} features, {len(rows)} cells; quality × 100 (outliers count 0):"
    return "\n".join(
        [head, "", _quality_table(rows, ps, least), "", *advice, f"page: {out / 'grid.html'}   rows: {out / 'grid.parquet'}"]
    )


def _given(source: Path, overrides: Sequence[str], device: str) -> Given:
    if source.suffix in (".npy", ".npz"):
        out = source.with_name(f"{source.stem}-labels-sweep")
        return Given(str(source), load_features(source), _identities(source), LabelSettings(), out)
    if source.is_dir():
        if overrides:
            raise UserError(f"{overrides[0]}: a run keeps its settings; --p, --min-samples, --k1 and --k2 change the grid")
        return _of_checkpoint(source, source / "labels-sweep", device)
    config = load_config(source, list(overrides))
    if not find(config.method).labels_target:
        raise UserError(f"{source}: method={config.method} makes no pseudo-labels; --labels-only needs one that does")
    pretrained = RunDirectory(config.output).round_checkpoint(0)
    if not pretrained.exists():
        first = dataclasses.replace(config, adapt=dataclasses.replace(config.adapt, rounds=0))
        train(first, resume=RunDirectory(config.output).config.exists())
    return _of_checkpoint(pretrained, Path(config.output) / "labels-sweep", device)


def _identities(source: Path) -> NDArray[np.int64] | None:
    """`pids` of an .npz of features, where it has them."""
    if source.suffix != ".npz":
        return None
    with np.load(source, allow_pickle=False) as archive:
        return archive["pids"].astype(np.int64) if "pids" in archive else None


def _of_checkpoint(checkpoint: Path, out: Path, device: str) -> Given:
    """Features of the training images of a checkpoint's target."""
    model, config, file = load_model(checkpoint)
    target = open_domain(packed(config.target), labelled=False)
    store, count = store_of(target.train), len(target.train)
    where = training_device("auto" if device == "cuda" else "no")
    precision = Precision.to_use(config.runtime.precision, where, channels_last=config.runtime.channels_last)
    with bar("features of the target") as progress:
        features_ND = extract(
            precision.place(model),  # type: ignore[arg-type]
            target.train,
            slice(0, count),
            height=config.input.height,
            width=config.input.width,
            batch=config.evaluate.batch_size,
            precision=precision,
            progress=lambda done: progress(done, count),
        )
    pids_N = store.pids[target.train.rows]
    return Given(
        f"{target.name} by {file.parent.parent.name}/{file.stem}",
        features_ND,
        pids_N if (pids_N >= 0).any() else None,
        config.labels,
        out,
        target.camids if config.labels.camera_keys else None,
    )


def _advice(rows: Sequence[Row]) -> list[str]:
    """The choice that needs no target label and, where identities are known, how it stands against the best one."""
    known = [row for row in rows if "reason" not in row]
    if not known:
        return [f"no cell could be labelled: {rows[0]['reason']}"]
    best = max(known, key=lambda row: row["quality"])
    found = f"{best['clusters']:,.0f} clusters, {best['outliers']:,.0f} outliers, eps {best['eps']:.3f}"
    lines = [f"chosen without labels: {_setting(best)}: {found}"]
    if "oracle_f" in best:
        top = max(known, key=lambda row: row["oracle_f"])
        mean = float(np.mean([row["oracle_f"] for row in known]))
        lines.append(
            f"oracle (true identities, for judging only): pairwise F {100 * best['oracle_f']:.1f} at this choice, "
            f"{100 * top['oracle_f']:.1f} at the best ({_setting(top)}), {100 * mean:.1f} on average"
        )
    return lines


def _setting(row: Row) -> str:
    return f"p={row['p']:g}, min_samples={row['min_samples']}"


def _quality_table(rows: Sequence[Row], ps: Sequence[float], least: Sequence[int]) -> str:
    values = _values(rows, ps, least, "quality", 100)
    cells = [[f"{p:g}", *("–" if value is None else f"{value:.0f}" for value in line)] for p, line in zip(ps, values, strict=True)]
    return text_table(["p \\ min_samples", *map(str, least)], cells)


def _values(
    rows: Sequence[Row], ps: Sequence[float], least: Sequence[int], figure: str, scale: float = 1.0
) -> list[list[float | None]]:
    found = {(row["p"], row["min_samples"]): scale * row[figure] for row in rows if figure in row}
    return [[found.get((p, m)) for m in least] for p in ps]


_MAPS = (
    ("clusters", "Clusters", "Pseudo-identities that DBSCAN found.", 1.0),
    ("outliers", "Outliers", "Images outside every cluster.", 1.0),
    ("quality", "Quality, no label needed", "Mean silhouette × 100, an outlier counting 0. Framed: chosen.", 100.0),
    ("oracle_f", "Oracle: pairwise F-score", "Against true identities, in percent; not chosen by. Framed: chosen.", 100.0),
)  # fmt: skip


def _write_page(
    out: Path, given: Given, rows: Sequence[Row], ps: Sequence[float], least: Sequence[int], advice: Sequence[str]
) -> None:
    known = [row for row in rows if "reason" not in row]
    best = max(known, key=lambda row: row["quality"]) if known else None
    chosen = (ps.index(best["p"]), least.index(best["min_samples"])) if best else None
    maps = [
        HeatMap(
            title, caption, "min_samples", [str(m) for m in least], "p", [f"{p:g}" for p in ps],
            _values(rows, ps, least, figure, scale), chosen=chosen if scale != 1 else None,
        )
        for figure, title, caption, scale in _MAPS
        if any(figure in row for row in rows)
    ]  # fmt: skip
    tiles = [
        ("features", f"{len(given.features_ND):,}", f"of {given.features_ND.shape[1]:,} dimensions"),
        ("cells", str(len(rows)), "p × min_samples"),
    ]
    if best:
        tiles.append(("clusters", f"{best['clusters']:,.0f}", f"at {_setting(best)}"))
        tiles.append(("outliers", f"{best['outliers']:,.0f}", "at the same"))
    names = [
        "eps",
        "clusters",
        "outliers",
        "median_cluster",
        "silhouette",
        "quality",
        *(name for name in (best or {}) if name.startswith("oracle")),
    ]
    lines = [[f"p {row['p']:g}, min_samples {row['min_samples']}", *(_cell(name, row.get(name)) for name in names)] for row in rows]
    reasons = {row["reason"] for row in rows if "reason" in row}
    note = "Columns that begin with oracle need the true identities; an outlier counts there as a cluster of its own. " + " ".join(
        reasons
    )
    write_sweep_page(out, f"Labels of {given.name}", advice[0].capitalize() + ".", tiles, maps, (["", *names], lines), note)


def _cell(name: str, value: float | None) -> str:
    whole = name in ("clusters", "outliers", "median_cluster")
    return "–" if value is None else f"{value:,g}" if whole else f"{value:.4f}"

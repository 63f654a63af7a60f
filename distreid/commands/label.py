"""`distreid label`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from distreid.common.errors import UserError
from distreid.labels.settings import LabelSettings, label_settings

USUAL = LabelSettings()


def label(
    features: Path,
    /,
    *,
    out: Path,
    p: float | None = None,
    min_samples: int = USUAL.min_samples,
    k1: int = USUAL.k1,
    k2: int = USUAL.k2,
    eps: float | Literal["quality"] | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    camids: str | None = None,
    camera_normalize: bool = False,
    neighbours: Literal["exact", "ivf", "hnsw"] = "exact",
    folders: Path | None = None,
    images: str | None = None,
) -> None:
    """Pseudo-labels of anybody's features: k-reciprocal distances, eps, DBSCAN. Those of a run: distreid export.

    Args:
        features: Array [N, D] (.npy, or array features of an .npz).
        out: NAME.npz (labels, centers, eps), or NAME.csv or .parquet: index; path and camid where known; cluster (-1: in none);
            distance to its centre; silhouette.
        p: Proportion of all pairs that gives eps (0.0016 when empty).
        min_samples: Least size of a cluster (DBSCAN; counts the point itself).
        k1: Neighbours of the k-reciprocal encoding.
        k2: Of its query expansion.
        eps: In place of --p: a fixed one, or `quality`: of ten, that of the labels with the best silhouette, outliers counting 0.
        device: Where to compute.
        camids: Cameras [N] (.npy, or array camids of an .npz): camera-aware distances (CA-Jaccard).
        camera_normalize: With --camids: features less the mean of their camera's, over its deviation, in place of these.
        neighbours: ivf and hnsw search approximately, by faiss.
        folders: Also make this folder, with one of links to its pictures for each cluster.
        images: For --folders: the folder or packed file of which `distreid embed` took the features.
    """
    from distreid.actions.label import label as run
    from distreid.report.text import labels_text

    if eps == "quality" and p is not None:
        raise UserError(f"--p {p:g} --eps quality: each says what eps is; leave one out")
    p = USUAL.p if p is None else p
    settings = label_settings(k1=k1, k2=k2, p=p, min_samples=min_samples, neighbours=neighbours, camera_normalize=camera_normalize)
    labels, kind = run(features, out, settings, camids=camids, eps=eps, device=device, folders=folders, images=images)
    print(labels_text(labels))
    print(f"labels: {out}")
    if folders is not None:
        print(f"pictures by cluster: {folders} ({kind})")

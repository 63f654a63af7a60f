"""`distreid label`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from distreid.labels.settings import LabelSettings, label_settings

USUAL = LabelSettings()


def label(
    features: Path,
    /,
    *,
    out: Path,
    p: float = USUAL.p,
    min_samples: int = USUAL.min_samples,
    k1: int = USUAL.k1,
    k2: int = USUAL.k2,
    eps: float | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    camids: str | None = None,
    neighbours: Literal["exact", "ivf", "hnsw"] = "exact",
) -> None:
    """Pseudo-labels of anybody's features: k-reciprocal distances, eps, DBSCAN.

    Args:
        features: Array [N, D] (.npy, or array features of an .npz).
        out: NAME.npz (labels, centers, eps), or NAME.csv or .parquet (index, path where it is known, label; -1: in no cluster).
        p: Proportion of all pairs that gives eps.
        min_samples: Least size of a cluster (DBSCAN; counts the point itself).
        k1: Neighbours of the k-reciprocal encoding.
        k2: Of its query expansion.
        eps: A fixed eps in place of --p.
        device: Where to compute.
        camids: Cameras [N] (.npy, or array camids of an .npz): camera-aware distances (CA-Jaccard).
        neighbours: ivf and hnsw search approximately, by faiss.
    """
    from distreid.actions.label import check_out, write_labels
    from distreid.labels import load_camids, load_features, make_pseudo_labels
    from distreid.report.text import labels_text

    settings = label_settings(k1=k1, k2=k2, p=p, min_samples=min_samples, neighbours=neighbours)
    check_out(out)
    cameras = load_camids(camids) if camids else None
    labels = make_pseudo_labels(load_features(features), settings, camids=cameras, eps=eps, device=device)
    write_labels(out, labels, features)
    print(labels_text(labels))
    print(f"labels: {out}")

"""`distreid label`."""

from __future__ import annotations

from typing import Literal


def label(
    features: str,
    /,
    *,
    out: str,
    p: float = 1.6e-3,
    min_samples: int = 4,
    k1: int = 30,
    k2: int = 6,
    eps: float | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    camids: str | None = None,
    neighbours: Literal["exact", "ivf", "hnsw"] = "exact",
) -> None:
    """Pseudo-labels of anybody's features: k-reciprocal distances, eps, DBSCAN.

    Args:
        features: Array [N, D] (.npy, or array features of an .npz).
        out: The labels, NAME.npz.
        p: Proportion of all pairs that gives eps.
        min_samples: Least size of a cluster (DBSCAN; counts the point itself).
        k1: Neighbours of the k-reciprocal encoding.
        k2: Of its query expansion.
        eps: A fixed eps in place of --p.
        device: Where to compute.
        camids: Cameras [N] (.npy, or array camids of an .npz): camera-aware distances (CA-Jaccard).
        neighbours: ivf and hnsw search approximately, by faiss.
    """
    from distreid.labels import load_camids, load_features, make_pseudo_labels, save_labels
    from distreid.terminal import labels_text

    labels = make_pseudo_labels(
        load_features(features),
        camids_N=load_camids(camids) if camids else None,
        neighbours=neighbours,
        k1=k1,
        k2=k2,
        p=p,
        min_samples=min_samples,
        eps=eps,
        device=device,
    )
    save_labels(out, labels)
    print(labels_text(labels))
    print(f"labels: {out}")

"""Figures of a labelling that need no target label: to watch a run, to choose p and min_samples without seeing the answers."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from distreid.labels.stages import Stages

# Points on which the silhouette is measured, at most.
SAMPLES = 2048


def sizes(labels_N: NDArray[np.int64]) -> dict[str, float]:
    """clusters, outliers (points), smallest, median and largest cluster (0 when there is none)."""
    clustered = labels_N[labels_N >= 0]
    counts = np.bincount(clustered) if len(clustered) else np.zeros(1)
    return {
        "clusters": float(labels_N.max(initial=-1) + 1),
        "outliers": float(len(labels_N) - len(clustered)),
        "smallest_cluster": float(counts.min()),
        "median_cluster": float(np.median(counts)),
        "largest_cluster": float(counts.max()),
    }


def overall(silhouette: float, outliers: float, count: int) -> float:
    """The figure to choose a labelling by: the mean silhouette of all points, an outlier counting 0.

    The silhouette alone is best where only the tightest few stay in clusters; this way a point left out is a point not explained.
    """
    return silhouette * (1 - outliers / count)


def silhouette(stages: "Stages", weights: Any, labels_U: NDArray[np.int64], sizes_U: NDArray[np.int64]) -> float:
    """Mean silhouette in Jaccard distance of the clustered points: (b − a) / max(a, b), a the mean distance to the rest of the own
    cluster, b the least mean distance to another cluster (1 where none shares a neighbour).

    Exact up to 2,048 groups of copies, beyond that on as many evenly spaced ones. 0 with fewer than two clusters.
    """
    clusters = int(labels_U.max(initial=-1)) + 1
    if clusters < 2:
        return 0.0
    clustered = np.flatnonzero(labels_U >= 0)
    wanted = min(len(clustered), SAMPLES)
    chosen_S = clustered[np.arange(wanted) * len(clustered) // wanted]
    sizes_K = np.bincount(labels_U[clustered], weights=sizes_U[clustered]).astype(np.int64)
    return float(np.average(stages.silhouettes(weights, chosen_S, labels_U, sizes_K), weights=sizes_U[chosen_S]))


def agreement(labels_N: NDArray[np.int64], previous_N: NDArray[np.int64]) -> dict[str, float]:
    """Share of points clustered in both labellings, and the adjusted Rand index over these points (0 if there are none)."""
    both = (labels_N >= 0) & (previous_N >= 0)
    share = float(both.mean())
    if not both.any():
        return {"adjusted_rand": 0.0, "clustered_in_both": share}
    width = int(previous_N.max()) + 1
    together = pairs_together(labels_N[both] * width + previous_N[both])
    now, before = pairs_together(labels_N[both]), pairs_together(previous_N[both])
    total = int(both.sum()) * (int(both.sum()) - 1) // 2
    expected = now * before / max(total, 1)
    room = (now + before) / 2 - expected
    return {"adjusted_rand": (together - expected) / room if room else 1.0, "clustered_in_both": share}


def pairs_together(keys_N: NDArray[np.int64]) -> int:
    """Pairs of points with the same key."""
    counts = np.unique(keys_N, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())

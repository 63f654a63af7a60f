"""What a labelling says of each of its points: how far from its cluster's centre, and how well it fits into its cluster."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.labels.engines import engine_of
from distreid.labels.settings import LabelSettings

if TYPE_CHECKING:
    from distreid.retrieval.lists import Search

ROWS = 4096  # features widened together


def center_distances(
    features_ND: NDArray[np.floating], labels_N: NDArray[np.int64], centers_KD: NDArray[np.floating], normalized: bool
) -> NDArray[np.float64]:
    """‖f_i − C_k‖ of each point and its own cluster's centre, as in Eq. 4: float64 [N], NaN for outliers (label −1).

    normalized: whether the centres are means of L2-normalised features; then the points are normalised too.
    """
    distance_N = np.full(len(labels_N), np.nan)
    inside = np.flatnonzero(labels_N >= 0)
    for start in range(0, len(inside), ROWS):
        rows = inside[start : start + ROWS]
        f_BD = np.asarray(features_ND[rows], np.float64)
        if normalized:
            f_BD /= np.linalg.norm(f_BD, axis=1, keepdims=True)
        distance_N[rows] = np.linalg.norm(f_BD - centers_KD[labels_N[rows]], axis=1)
    return distance_N


def silhouettes(
    features_ND: NDArray[np.floating],
    labels_N: NDArray[np.int64],
    settings: LabelSettings,
    *,
    camids: NDArray[np.integer] | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Silhouette of each clustered point in Jaccard distance, float64 [N] in [−1, 1]; NaN for outliers.

    That of `distreid.labels.quality.silhouette`, which is the mean of these, over all points in place of a sample: 0 where there
    are fewer than two clusters. features_ND, settings, camids: what the labels were made of and with; the neighbours are searched
    anew. Raises UserError as `make_pseudo_labels` does.
    """
    from distreid.labels.api import checked, lists_of
    from distreid.retrieval.approximate import ApproximateSearch

    silhouette_N, clusters = np.where(labels_N >= 0, 0.0, np.nan), int(labels_N.max(initial=-1)) + 1
    if clusters < 2:
        return silhouette_N
    threads = threads or torch.get_num_threads()
    with engine_of(settings, device, threads) as stages:
        prepared = checked(features_ND, settings, camids, threads)
        search: Search = stages.search
        if settings.neighbours != "exact":
            search = ApproximateSearch(settings.neighbours, threads, stages.device)
        lists = lists_of(prepared, settings, camids, search)
        weights = stages.expand(stages.reciprocal(prepared, lists), prepared, lists)
        labels_U = labels_N[prepared.first_U]  # copies are in one cluster
        inside = np.flatnonzero(labels_U >= 0)
        silhouette_U = np.full(len(labels_U), np.nan)
        silhouette_U[inside] = stages.silhouettes(weights, inside, labels_U, np.bincount(labels_N[labels_N >= 0]))
    return silhouette_U[prepared.group_N]

"""The dense form that most code uses, N×N float64 arrays, as the yardstick of `bench` at small N. Nothing else calls it."""

import numpy as np
from numpy.typing import NDArray

from distreid.errors import UserError


def dense_jaccard(features_ND: NDArray[np.floating], k1: int, k2: int) -> NDArray[np.float64]:
    """J of all pairs, [N, N] (the encoding is that of `distreid.retrieval.reciprocal`)."""
    unit_ND = features_ND.astype(np.float64)
    unit_ND /= np.linalg.norm(unit_ND, axis=1, keepdims=True)
    squared_NN = np.stack([np.square(unit_ND - row_D).sum(1) for row_D in unit_ND])
    rank_NN = np.argsort(squared_NN, axis=1, kind="stable")
    whole_NN, half_NN = (_reciprocal(rank_NN[:, :k]) for k in (k1, round(k1 / 2) + 1))
    weights_NN = np.zeros_like(squared_NN)
    for i, whole_N in enumerate(whole_NN):
        of_neighbours_CN = half_NN[whole_N]
        sizes_C, common_C = of_neighbours_CN.sum(1), (of_neighbours_CN & whole_N).sum(1)
        members_N = whole_N | of_neighbours_CN[3 * common_C > 2 * sizes_C].any(0)
        weights_NN[i, members_N] = np.exp(-squared_NN[i, members_N])
        weights_NN[i] /= max(weights_NN[i].sum(), np.finfo(np.float64).tiny)
    expanded_NN = np.stack([weights_NN[nearest].mean(0) for nearest in rank_NN[:, :k2]])
    shared_NN = np.stack([np.minimum(row_N, expanded_NN).sum(1) for row_N in expanded_NN])
    return np.maximum(1 - shared_NN / (2 - shared_NN), 0)


def dense_dbscan(distances_NN: NDArray[np.float64], eps: float, min_samples: int) -> NDArray[np.int64]:
    """scikit-learn's labels."""
    try:
        from sklearn.cluster import DBSCAN
    except ImportError as error:
        raise UserError("the dense comparison needs the package scikit-learn: pip install scikit-learn") from error
    return DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(distances_NN)


def _reciprocal(nearest_NK: NDArray[np.int64]) -> NDArray[np.bool_]:
    listed_NN = np.zeros((len(nearest_NK), len(nearest_NK)), np.bool_)
    np.put_along_axis(listed_NN, nearest_NK, True, axis=1)
    return listed_NN & listed_NN.T

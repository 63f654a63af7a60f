"""The definitions of SPEC.md as they are written, on dense N×N float64 arrays: slow, obvious, the yardstick of tests and `bench`.

Ties are broken by index; a list of the k nearest includes the point itself.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError


def squared_distances(features_ND: NDArray[np.floating]) -> NDArray[np.float64]:
    """‖f̂_i − f̂_j‖² of the normalised features, [N, N]."""
    unit_ND = np.asarray(features_ND, np.float64)
    unit_ND = unit_ND * (1 / np.sqrt((unit_ND**2).sum(1)))[:, None]
    return np.stack([((row_D - unit_ND) ** 2).sum(1) for row_D in unit_ND])


def jaccard(features_ND: NDArray[np.floating], k1: int, k2: int) -> NDArray[np.float64]:
    """J of all pairs, [N, N] (Zhong et al., CVPR 2017, in the form used for clustering). The half lists have round(k1/2) + 1
    entries."""
    squared_NN = squared_distances(features_ND)
    rank_NN = np.argsort(squared_NN, axis=1, kind="stable")
    whole, half = (_reciprocal([set(row[:k].tolist()) for row in rank_NN]) for k in (k1, round(k1 / 2) + 1))
    members = []
    for mine in whole:
        expanded = set(mine)
        for c in mine:
            if 3 * len(half[c] & mine) > 2 * len(half[c]):
                expanded |= half[c]
        members.append(expanded)
    v_NN = _softmax(squared_NN, members)
    return _distances(np.stack([v_NN[nearest_k].mean(0) for nearest_k in rank_NN[:, :k2]]))


def normalized_by_camera(features_ND: NDArray[np.floating], camids_N: NDArray[np.integer]) -> NDArray[np.float64]:
    """(f̂ − m_c) / σ_c (Song et al., ICLR 2025) where every camera has images enough and every dimension varies: [N, D]."""
    unit_ND = np.asarray(features_ND, np.float64)
    unit_ND = unit_ND / np.sqrt((unit_ND**2).sum(1))[:, None]
    own = [unit_ND[camids_N == camid] for camid in camids_N]
    return np.stack([(f_D - own_nD.mean(0)) / own_nD.std(0) for f_D, own_nD in zip(unit_ND, own, strict=True)])


def camera_aware_jaccard(
    features_ND: NDArray[np.floating], camids_N: NDArray[np.integer], k1_intra: int, k1_inter: int, k2_intra: int, k2_inter: int
) -> NDArray[np.float64]:
    """CA-Jaccard (Chen et al., CVPR 2024), [N, N]: ranking lists of the own camera and of all others, k1 + 1 entries each."""
    squared_NN = squared_distances(features_ND)
    ranking = np.argsort(squared_NN, axis=1, kind="stable").tolist()
    intra = [[j for j in row if camids_N[j] == camids_N[i]] for i, row in enumerate(ranking)]
    inter = [[j for j in row if camids_N[j] != camids_N[i]] for i, row in enumerate(ranking)]
    own = _reciprocal([set(row[: k1_intra + 1]) for row in intra])
    others = _reciprocal([set(row[: k1_inter + 1]) for row in inter])
    v_NN = _softmax(squared_NN, [mine | theirs for mine, theirs in zip(own, others, strict=True)])
    return _distances(
        np.stack([v_NN[mine[:k2_intra] + theirs[:k2_inter]].mean(0) for mine, theirs in zip(intra, inter, strict=True)])
    )


def eps(distances_NN: NDArray[np.float64], p: float) -> float:
    """Mean of the smallest proportion p of all pair distances."""
    pairs = np.sort(distances_NN[np.triu_indices(len(distances_NN), 1)])
    return float(pairs[: round(p * len(pairs))].mean())


def dbscan(distances_NN: Any, eps: float, min_samples: int, copies_N: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """scikit-learn's labels, [N]. distances_NN: dense, or a sparse matrix of those that may lie within eps, as its radius search
    wants them: each row ascending. copies_N: for how many points each stands."""
    try:
        from sklearn.cluster import DBSCAN
    except ImportError as error:
        raise UserError("the dense comparison needs the package scikit-learn: pip install scikit-learn") from error
    return DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(distances_NN, sample_weight=copies_N).labels_


def _reciprocal(lists: list[set[int]]) -> list[set[int]]:
    """R(i) = {j ∈ N(i) : i ∈ N(j)}."""
    return [{j for j in mine if i in lists[j]} for i, mine in enumerate(lists)]


def _softmax(squared_NN: NDArray[np.float64], members: list[set[int]]) -> NDArray[np.float64]:
    """V: the softmax of −d² over each row's members."""
    v_NN = np.zeros_like(squared_NN)
    for i, mine in enumerate(members):
        for g in mine:
            v_NN[i, g] = np.exp(-squared_NN[i, g])
        if mine:
            v_NN[i] /= v_NN[i].sum()
    return v_NN


def _distances(v_NN: NDArray[np.float64]) -> NDArray[np.float64]:
    """J = 1 − m / (2 − m) with m = Σ_g min(V_ig, V_jg)."""
    shared_NN = np.stack([np.minimum(row_N, v_NN).sum(1) for row_N in v_NN])
    return np.maximum(1 - shared_NN / (2 - shared_NN), 0)

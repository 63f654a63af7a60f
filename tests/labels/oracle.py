"""The dense, slow, obvious float64 k-reciprocal encoding and eps, written from SPEC.md with N×N arrays."""

import numpy as np
from numpy.typing import NDArray


def squared_distances(features_ND: NDArray) -> NDArray:
    """‖f̂_i − f̂_j‖² of the normalised features, in float64."""
    unit_ND = np.asarray(features_ND, np.float64)
    unit_ND = unit_ND * (1 / np.sqrt((unit_ND**2).sum(1)))[:, None]
    return np.stack([((row - unit_ND) ** 2).sum(1) for row in unit_ND])


def jaccard(features_ND: NDArray, k1: int, k2: int) -> NDArray:
    """J, dense [N, N]. The k1 nearest include the point itself; the half list has round(k1/2) + 1 entries."""
    squared_NN = squared_distances(features_ND)
    count = len(squared_NN)
    rank_NN = np.argsort(squared_NN, axis=1, kind="stable")

    def reciprocal(i: int, k: int) -> set[int]:
        return {int(j) for j in rank_NN[i, :k] if i in rank_NN[j, :k]}

    half = round(k1 / 2) + 1
    v_NN = np.zeros((count, count))
    for i in range(count):
        whole = reciprocal(i, k1)
        expanded = set(whole)
        for c in whole:
            candidate = reciprocal(c, half)
            if 3 * len(candidate & whole) > 2 * len(candidate):
                expanded |= candidate
        for g in expanded:
            v_NN[i, g] = np.exp(-squared_NN[i, g])
        if expanded:
            v_NN[i] /= v_NN[i].sum()
    v_NN = np.stack([v_NN[rank_NN[i, :k2]].mean(0) for i in range(count)])
    shared_NN = np.stack([np.minimum(row, v_NN).sum(1) for row in v_NN])
    return np.clip(1 - shared_NN / (2 - shared_NN), 0, None)


def eps(distances_NN: NDArray, p: float) -> float:
    """Mean of the smallest proportion p of all pair distances."""
    pairs = np.sort(distances_NN[np.triu_indices(len(distances_NN), 1)])
    return float(pairs[: round(p * len(pairs))].mean())


def camera_aware_jaccard(
    features_ND: NDArray, camids_N: NDArray, k1_intra: int, k1_inter: int, k2_intra: int, k2_inter: int
) -> NDArray:
    """CA-Jaccard (Chen et al., CVPR 2024), dense [N, N]: ranking lists of the own camera and of all others, k1 + 1 entries each."""
    squared_NN = squared_distances(features_ND)
    count = len(squared_NN)
    rank_NN = np.argsort(squared_NN, axis=1, kind="stable")
    intra = [[int(j) for j in rank_NN[i] if camids_N[j] == camids_N[i]] for i in range(count)]
    inter = [[int(j) for j in rank_NN[i] if camids_N[j] != camids_N[i]] for i in range(count)]
    v_NN = np.zeros((count, count))
    for i in range(count):
        related = {j for j in intra[i][: k1_intra + 1] if i in intra[j][: k1_intra + 1]}
        related |= {j for j in inter[i][: k1_inter + 1] if i in inter[j][: k1_inter + 1]}
        for g in related:
            v_NN[i, g] = np.exp(-squared_NN[i, g])
        if related:
            v_NN[i] /= v_NN[i].sum()
    v_NN = np.stack([v_NN[intra[i][:k2_intra] + inter[i][:k2_inter]].mean(0) for i in range(count)])
    shared_NN = np.stack([np.minimum(row, v_NN).sum(1) for row in v_NN])
    return np.clip(1 - shared_NN / (2 - shared_NN), 0, None)

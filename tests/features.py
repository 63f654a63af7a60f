"""Features that tests draw: of many kinds, for what is exact must be so with copies and ties too."""

import numpy as np
from numpy.typing import NDArray

KINDS = ["random", "clustered", "half_copies", "few_values", "one_crowd"]


def draw_features(kind: str, count: int, dim: int, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    features_ND = random.standard_normal((count, dim), dtype=np.float32)
    if kind == "random":
        return features_ND
    centers_KD = 2 * random.standard_normal((max(count // 12, 1), dim), dtype=np.float32)
    if kind == "few_values":  # ten distinct rows, each many times: ties everywhere
        return features_ND[random.integers(0, 10, count)]
    features_ND += centers_KD[random.integers(0, len(centers_KD), count)]
    if kind == "half_copies":  # every copy scaled by a power of two: the same once normalised
        features_ND[count // 2 :] = 4 * features_ND[: count - count // 2]
    if kind == "one_crowd":  # more copies of one row than k1
        features_ND[random.permutation(count)[: count // 2]] = features_ND[0]
    return features_ND


def to_dense(graph, count: int) -> NDArray[np.float64]:
    entries = graph.tocoo()
    distances_NN = np.ones((count, count))
    distances_NN[entries.row, entries.col] = entries.data
    return distances_NN

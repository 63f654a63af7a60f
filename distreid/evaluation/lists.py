"""Rank lists: the first gallery images of each query, with their similarities."""

import numpy as np
from numpy.typing import NDArray

_SCORES = 1 << 24  # float64 scores held at a time: 128 MB
_ROWS = 4096  # gallery features widened together

RankList = tuple[NDArray[np.int64], NDArray[np.float64]]  # gallery rows, nearest first, and their cosine similarities


def first_ranked(
    query_QD: NDArray[np.float32], gallery_GD: NDArray[np.float32], left_out_QG: NDArray[np.bool_], count: int
) -> list[RankList]:
    """Of each query the first gallery rows by cosine, `count` or as many as are not left out.

    Scores are float64; those that agree in 12 digits are ordered by row. A zero vector scores 0.
    """
    ranked, block = [], max(1, _SCORES // max(1, len(gallery_GD)))
    for start in range(0, len(query_QD), block):
        rows = slice(start, start + block)
        score_BG = _cosines(query_QD[rows], gallery_GD)
        score_BG[left_out_QG[rows]] = -np.inf
        for score_G in score_BG:
            first = np.argsort(-score_G, kind="stable")[:count]
            first = first[score_G[first] > -np.inf]
            ranked.append((first, score_G[first]))
    return ranked


def _cosines(query_BD: NDArray[np.float32], gallery_GD: NDArray[np.float32]) -> NDArray[np.float64]:
    score_BG, unit_DB = np.empty((len(query_BD), len(gallery_GD))), _unit(query_BD).T
    for start in range(0, len(gallery_GD), _ROWS):
        score_BG[:, start : start + _ROWS] = (_unit(gallery_GD[start : start + _ROWS]) @ unit_DB).T
    return np.round(score_BG, 12)


def _unit(features_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    wide_ND = features_ND.astype(np.float64)
    return wide_ND / np.maximum(np.linalg.norm(wide_ND, axis=1, keepdims=True), 1e-12)

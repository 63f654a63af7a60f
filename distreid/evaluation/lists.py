"""Rank lists: the first gallery images of each query, with their similarities."""

import numpy as np
from numpy.typing import NDArray

from distreid.evaluation.features import JUNK, Features

_SCORES = 1 << 24  # float64 scores held at a time: 128 MB
_ROWS = 4096  # gallery features widened together


def first_ranked(query: Features, gallery: Features, count: int) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Of each query the first gallery rows by cosine and their similarities, `count` or as many as there are.

    Ranked as in `distreid.evaluation.rank`: junk (pid -1) is left out, and of each query what has its pid and its camid. Scores
    are float64; those that agree in 12 digits are ordered by row.
    """
    ranked, block = [], max(1, _SCORES // len(gallery))
    for start in range(0, len(query), block):
        rows = slice(start, start + block)
        score_BG = _cosines(query.features[rows], gallery.features)
        own_BG = (query.pids[rows, None] == gallery.pids) & (query.camids[rows, None] == gallery.camids)
        score_BG[own_BG & (query.camids[rows, None] != -1) | (gallery.pids == JUNK)] = -np.inf
        for score_G in score_BG:
            first = np.argsort(-score_G, kind="stable")[:count]
            first = first[score_G[first] > -np.inf]
            ranked.append((first, score_G[first]))
    return ranked


def _cosines(query_BD: NDArray[np.float32], gallery_GD: NDArray[np.float32]) -> NDArray[np.float64]:
    score_BG = np.empty((len(query_BD), len(gallery_GD)))
    unit_DB = _unit(query_BD).T
    for start in range(0, len(gallery_GD), _ROWS):
        score_BG[:, start : start + _ROWS] = (_unit(gallery_GD[start : start + _ROWS]) @ unit_DB).T
    return np.round(score_BG, 12)


def _unit(features_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    wide_ND = features_ND.astype(np.float64)
    return wide_ND / np.maximum(np.linalg.norm(wide_ND, axis=1, keepdims=True), 1e-12)

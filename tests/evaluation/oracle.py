"""The protocol written as plainly as possible: float64, one query, one gallery image, one rank at a time."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distreid.evaluation import Features


@dataclass
class Truth:
    ranks: list[list[int]]  # of each query's positives, 1-based
    ap_hits: list[float]  # of the queries with a positive
    ap_trapezoid: list[float]
    inp: list[float]
    cmc: NDArray[np.float64]
    without: int


def evaluate(query: Features, gallery: Features, normalize: bool = True) -> Truth:
    truth = Truth([], [], [], [], np.zeros(50), 0)
    for q in range(len(query)):
        candidates = []
        for g in range(len(gallery)):
            if gallery.pids[g] == -1:
                continue
            same_camera = query.camids[q] != -1 and gallery.camids[g] == query.camids[q]
            if gallery.pids[g] == query.pids[q] and same_camera:
                continue
            candidates.append((_distance(query.features[q], gallery.features[g], normalize), g))
        candidates.sort()  # by distance, then by gallery index
        matches = [bool(gallery.pids[g] == query.pids[q]) for _, g in candidates]
        truth.ranks.append([place + 1 for place, hit in enumerate(matches) if hit])
        if not any(matches):
            truth.without += 1
            continue
        truth.ap_hits.append(ap_by_hits(matches))
        truth.ap_trapezoid.append(ap_by_trapezoid(matches))
        truth.inp.append(sum(matches) / truth.ranks[-1][-1])
        truth.cmc[truth.ranks[-1][0] - 1 :] += 1
    truth.cmc /= max(len(truth.inp), 1)
    return truth


def _distance(a_D: NDArray[np.float32], b_D: NDArray[np.float32], normalize: bool) -> float:
    """Ordered as the distance is; exact for small integers, so that equal distances are equal numbers."""
    a, b = a_D.astype(np.float64), b_D.astype(np.float64)
    if not normalize:
        return float(((a - b) ** 2).sum())
    length = math.sqrt(float((b * b).sum()))
    return -float((a * b).sum()) / length if length else 0.0


def ap_by_hits(matches: list[bool]) -> float:
    found, total = 0, 0.0
    for place, hit in enumerate(matches):
        if hit:
            found += 1
            total += found / (place + 1)
    return total / found


def ap_by_trapezoid(matches: list[bool]) -> float:
    """Walks every rank, as the area under the precision-recall curve is drawn."""
    found, area, old_recall, old_precision = 0, 0.0, 0.0, 1.0
    for place, hit in enumerate(matches):
        found += hit
        recall, precision = found / sum(matches), found / (place + 1)
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return area

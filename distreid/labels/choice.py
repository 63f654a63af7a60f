"""eps without a guess at the number of people: of several, the one whose labels are of the best quality."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.labels import quality
from distreid.labels.stages import NearPairs, Stages, eps_of

# Tried: eps of as many pairs as if each image had so many others of its own person. What is tried, and the pairs that are held for
# it, then grow with the images, not with their square.
OTHERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48)


def pairs_tried(count: int) -> list[int]:
    """How many of the nearest pairs of ``count`` images give each eps that is tried, ascending."""
    return [others * count // 2 for others in OTHERS if others < count]


def best_eps(stages: Stages, weights: Any, near: NearPairs, sizes_U: NDArray[np.int64], min_samples: int) -> float:
    """*Decided*: the eps whose clusters have the best `quality.overall`, of equals the smallest.

    Args:
        near: at least the `pairs_tried` nearest pairs.

    Raises:
        UserError: fewer pairs share neighbours than the least number that is tried.
    """
    count, best = int(sizes_U.sum()), (-np.inf, 0.0)
    for number, asked in enumerate(pairs_tried(count)):
        try:
            eps = eps_of(stages, near, sizes_U, asked)
        except UserError:
            if not number:
                raise UserError(f"hardly any pair of the {count} features shares a neighbour: use a larger k1") from None
            break  # more pairs are not there either
        labels_U = stages.dbscan(near.within(eps), sizes_U, eps, min_samples)
        outliers = float(sizes_U[labels_U < 0].sum())
        value = quality.overall(quality.silhouette(stages, weights, labels_U, sizes_U), outliers, count)
        best = max(best, (value, -eps))
    return -best[1]

"""From which similarity on two images are taken for one person's, learnt from clusters alone."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.common.text import plural

WRONG = 1e-3  # [decided] the false match rate at which thresholds of recognition systems are commonly stated
IMAGES = 2048  # looked at, at most: two million pairs


@dataclass(frozen=True)
class Threshold:
    """Images of a higher cosine similarity than `similarity` are taken for one person's.

    wrong, found: shares of the pairs from different clusters, and from within clusters, that lie above it. clusters, images:
    what it was learnt from.
    """

    similarity: float
    wrong: float
    found: float
    clusters: int
    images: int

    def as_dict(self) -> dict[str, float]:
        """Ready for JSON."""
        return asdict(self)


def calibrate(features_ND: NDArray[np.floating], labels_N: NDArray[np.int64], wrong: float = WRONG) -> Threshold:
    """The least similarity that at most a share ``wrong`` of the pairs from different clusters exceed.

    The false match rate (ISO/IEC 19795-1) with clusters in the place of persons. No label is seen. Outliers take no part; of many
    images, 2,048 at even steps do. Where a person has two clusters, pairs of theirs count as wrong: the threshold is then too
    high rather than too low. UserError with fewer than two clusters.
    """
    inside = np.flatnonzero(labels_N >= 0)
    clusters = len(np.unique(labels_N[inside]))
    if clusters < 2:
        raise UserError(f"{plural(clusters, 'cluster')} among {len(labels_N):,} images, and a threshold needs two")
    taken = min(len(inside), IMAGES)
    rows_n = inside[np.arange(taken) * len(inside) // taken]
    f_nD = np.asarray(features_ND[rows_n], np.float64)
    f_nD /= np.linalg.norm(f_nD, axis=1, keepdims=True)
    first_P, second_P = np.triu_indices(taken, 1)
    same_P = labels_N[rows_n[first_P]] == labels_N[rows_n[second_P]]
    similarity_P = (f_nD @ f_nD.T)[first_P, second_P]
    apart_P, within_P = similarity_P[~same_P], similarity_P[same_P]
    allowed = int(wrong * len(apart_P))
    at = float(np.partition(apart_P, len(apart_P) - 1 - allowed)[len(apart_P) - 1 - allowed])
    found = float((within_P > at).mean()) if len(within_P) else 0.0
    return Threshold(at, float((apart_P > at).mean()), found, clusters, taken)

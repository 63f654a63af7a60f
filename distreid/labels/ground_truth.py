"""How pseudo-labels agree with the true identities: an oracle, for drawings and for judging a choice after it was made.

Nothing here may steer a training or a choice: in use, the target has no identities (SPEC.md, section 5).
"""

import numpy as np
from numpy.typing import NDArray

from distreid.labels.quality import agreement, pairs_together


def score_clusters(labels_N: NDArray[np.int64], pids_N: NDArray[np.int64]) -> dict[str, float]:
    """Pairwise precision, recall and F-score, adjusted Rand index, normalised mutual information (arithmetic mean), in [0, 1].

    An outlier counts as a cluster of its own [decided], so that leaving images out costs recall. Images whose identity is not known
    (pid below 0) are left out. Empty where no image is left.
    """
    known = pids_N >= 0
    if not known.any():
        return {}
    labels_n, pids_n = _alone(labels_N[known]), np.unique(pids_N[known], return_inverse=True)[1]
    both_n = labels_n * (int(pids_n.max()) + 1) + pids_n
    shared, found, true = pairs_together(both_n), pairs_together(labels_n), pairs_together(pids_n)
    ours, theirs = _entropy(labels_n), _entropy(pids_n)
    mutual, mean = ours + theirs - _entropy(both_n), (ours + theirs) / 2
    return {
        "oracle_precision": shared / found if found else 0.0,
        "oracle_recall": shared / true if true else 0.0,
        "oracle_f": 2 * shared / (found + true) if found + true else 0.0,
        "oracle_ari": agreement(labels_n, pids_n)["adjusted_rand"],
        "oracle_nmi": mutual / mean if mean else 1.0,
    }


def _alone(labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every outlier in a cluster of its own."""
    outliers = labels_N < 0
    labels_N = labels_N.copy()
    labels_N[outliers] = labels_N.max(initial=-1) + 1 + np.arange(outliers.sum())
    return labels_N


def _entropy(keys_N: NDArray[np.int64]) -> float:
    shares = np.unique(keys_N, return_counts=True)[1] / len(keys_N)
    return float(-(shares * np.log(shares)).sum())

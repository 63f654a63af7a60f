"""What a round of labelling hands to training: plain arrays, so that every process of a node can map one copy."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.labels.files import write_npz
from distreid.labels.weights import MIN_SQUARED_DISTANCE, soft_weights


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Pseudo-labels of one round.

    labels: int64 [N], cluster of each feature, −1 for DBSCAN's outliers. Clusters are numbered by their first core point.
    centers: float32 [K, D], C_k, the mean feature of cluster k.
    eps: the DBSCAN radius used, a Jaccard distance in [0, 1].
    normalized: whether the centres are means of L2-normalised features (then `soft_weights` normalises its features too).
    quality: figures that need no target label (`distreid.labels.quality`). stats: seconds per stage, sizes, bytes.
    """

    labels: NDArray[np.int64]
    centers: NDArray[np.float32]
    eps: float
    normalized: bool = True
    quality: dict[str, float] = field(default_factory=dict)
    stats: dict[str, float] = field(default_factory=dict)

    @property
    def num_clusters(self) -> int:
        """K, the size of the target head."""
        return int(self.centers.shape[0])

    def soft_weights(
        self,
        features_BD: NDArray[np.floating],
        labels_B: NDArray[np.integer],
        *,
        epsilon: float = 0.9,
        normalize: bool = False,
        min_squared_distance: float = MIN_SQUARED_DISTANCE,
    ) -> NDArray[np.float32]:
        """Eq. 4 for a batch of features and their clusters: float32 [B, K]. See `distreid.labels.soft_weights`."""
        weights_BK = soft_weights(
            # Copies: arrays from an object store are read-only, which torch's views are not made for.
            torch.tensor(features_BD),
            torch.tensor(self.centers),
            torch.tensor(labels_B, dtype=torch.int64),
            epsilon=epsilon,
            normalize=normalize,
            normalize_features=self.normalized,
            min_squared_distance=min_squared_distance,
        )
        return weights_BK.numpy()


def save_labels(path: str | Path, result: PseudoLabels) -> None:
    """Write `labels`, `centers` and `eps` as an .npz, atomically. UserError when the folder cannot be written."""
    write_npz(Path(path), labels=result.labels, centers=result.centers, eps=np.float64(result.eps))

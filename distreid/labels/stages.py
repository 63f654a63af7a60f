"""What an engine does between checked features and labels. The CPU's is `cpu`, the GPU's `device`; both give the same labels."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distreid.retrieval.lists import Lists, Neighbours
from distreid.retrieval.prepare import Prepared


class Stages(Protocol):
    """Each method takes what the one before it returned; V, weights and pairs are the engine's own. U: groups of copies."""

    def search(self, prepared: Prepared, k: int, *, apart_U: NDArray[np.int64] | None = None) -> Neighbours:
        """Exact nearest rows, see `distreid.retrieval.lists.Search`."""
        ...

    def reciprocal(self, prepared: Prepared, lists: Lists) -> Any:
        """V [N, N], sparse: softmax of −d² over R*."""
        ...

    def expand(self, v: Any, prepared: Prepared, lists: Lists) -> Any:
        """Weights [U, N]: V after the local query expansion."""
        ...

    def pairs_within(self, weights: Any, cutoff: float) -> Any:
        """J of all pairs with J ≤ cutoff < 1."""
        ...

    def nearest_pairs(self, weights: Any, asked: int) -> Any:
        """J of at least the `asked` nearest pairs."""
        ...

    def eps(self, near: Any, sizes_U: NDArray[np.int64], asked: int) -> float:
        """Mean of the `asked` smallest J."""
        ...

    def dbscan(self, near: Any, sizes_U: NDArray[np.int64], eps: float, min_samples: int) -> NDArray[np.int64]:
        """Cluster of each group, −1 for outliers, as scikit-learn numbers and assigns them."""
        ...

    def silhouette(self, weights: Any, labels_U: NDArray[np.int64]) -> float:
        """See `distreid.labels.quality.silhouette`."""
        ...

"""The stages of a labelling on one device."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distreid.labels.gpu import clustering, jaccard, neighbours, pairs
from distreid.labels.gpu.jaccard import Sparse
from distreid.labels.gpu.pairs import DevicePairs, Weights
from distreid.labels.gpu.tensors import Features, to_device
from distreid.labels.quality import silhouette_of
from distreid.retrieval.lists import Lists, Neighbours
from distreid.retrieval.neighbours import Progress
from distreid.retrieval.prepare import Prepared


class DeviceStages:
    """Implements `distreid.labels.stages.Stages`."""

    def __init__(self, device: torch.device, progress: Progress | None = None) -> None:
        self._device, self._progress = device, progress
        self._prepared: Prepared | None = None
        self._features: Features | None = None

    def _on_device(self, prepared: Prepared) -> Features:
        """The features, moved once."""
        if self._features is None or self._prepared is not prepared:
            self._features = None  # the old ones go before the new ones come
            self._prepared, self._features = prepared, Features.of(prepared, self._device)
        return self._features

    def search(self, prepared: Prepared, k: int, *, apart_U: NDArray[np.int64] | None = None) -> Neighbours:
        return neighbours.nearest(prepared, self._on_device(prepared), k, apart_U=apart_U, progress=self._progress)

    def reciprocal(self, prepared: Prepared, lists: Lists) -> Sparse:
        return jaccard.reciprocal_weights(self._on_device(prepared), lists)

    def expand(self, v: Sparse, prepared: Prepared, lists: Lists) -> Weights:
        return Weights(jaccard.expand_queries(v, lists), self._sizes(prepared.sizes))

    def pairs_within(self, weights: Weights, cutoff: float) -> DevicePairs:
        return pairs.pairs_within(weights, cutoff)

    def nearest_pairs(self, weights: Weights, asked: int) -> DevicePairs:
        return pairs.nearest_pairs(weights, asked)

    def eps(self, near: DevicePairs, sizes_U: NDArray[np.int64], asked: int) -> float:
        return clustering.eps_of_pairs(near, self._sizes(sizes_U), asked)

    def dbscan(self, near: DevicePairs, sizes_U: NDArray[np.int64], eps: float, min_samples: int) -> NDArray[np.int64]:
        return clustering.dbscan(near, self._sizes(sizes_U), eps, min_samples).cpu().numpy()

    def silhouette(self, weights: Weights, labels_U: NDArray[np.int64]) -> float:
        labels = to_device(labels_U, self._device)

        def values(chosen_S: NDArray[np.int64], sizes_K: NDArray[np.int64]) -> NDArray[np.float64]:
            chosen, sizes = to_device(chosen_S, self._device), to_device(sizes_K, self._device)
            return pairs.silhouettes(weights, chosen, labels, sizes).cpu().numpy()

        return silhouette_of(values, labels_U, weights.sizes_U.cpu().numpy())

    def _sizes(self, sizes_U: NDArray[np.int64]) -> Tensor:
        return to_device(sizes_U, self._device)

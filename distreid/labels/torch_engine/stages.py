"""The stages of a labelling on one device."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distreid.labels.cpu.clustering import cluster_centers
from distreid.labels.pairs import ArrayPairs
from distreid.labels.torch_engine import jaccard, neighbours, pairs
from distreid.labels.torch_engine.jaccard import Sparse
from distreid.labels.torch_engine.pairs import Weights
from distreid.labels.torch_engine.tensors import Features, to_device
from distreid.retrieval.blocks import Progress
from distreid.retrieval.lists import Lists, Neighbours
from distreid.retrieval.prepare import Prepared
from distreid.retrieval.reciprocal import Csr


class TorchStages:
    """Implements `distreid.labels.stages.Stages`. tile: of the neighbour search."""

    def __init__(self, device: torch.device, progress: Progress | None = None, *, tile: tuple[int, int] = neighbours.TILE) -> None:
        self.device, self._progress, self._tile = device, progress, tile
        self._prepared: Prepared | None = None
        self._features: Features | None = None

    def _on_device(self, prepared: Prepared) -> Features:
        """The features, moved once."""
        if self._features is None or self._prepared is not prepared:
            self._features = None  # the old ones go before the new ones come
            self._prepared, self._features = prepared, Features.of(prepared, self.device)
        return self._features

    def search(self, prepared: Prepared, k: int, *, apart_U: NDArray[np.int64] | None = None) -> Neighbours:
        return neighbours.nearest(prepared, self._on_device(prepared), k, apart_U=apart_U, tile=self._tile, progress=self._progress)

    def reciprocal(self, prepared: Prepared, lists: Lists) -> Sparse:
        return jaccard.reciprocal_weights(self._on_device(prepared), lists)

    def rows(self, v: Sparse) -> Csr:
        offsets, columns_E, values_E = (np.asarray(array.cpu()) for array in v)
        return Csr(offsets, columns_E.astype(np.int32), values_E)

    def expand(self, v: Sparse, prepared: Prepared, lists: Lists) -> Weights:
        return Weights(jaccard.expand_queries(v, lists), to_device(prepared.sizes, self.device))

    def sample_distances(self, weights: Weights, step: int) -> Iterable[NDArray[np.float64]]:
        return pairs.sample_distances(weights, step)

    def pairs_within(self, weights: Weights, cutoff: float) -> ArrayPairs:
        return pairs.pairs_within(weights, cutoff)

    def smallest(self, near: ArrayPairs, sizes_U: NDArray[np.int64], count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        distance_E, order_E = torch.sort(near.distance_E, stable=True)
        sizes, order_E = to_device(sizes_U, self.device), order_E[:count]
        copies_E = sizes[near.u_E[order_E]] * sizes[near.w_E[order_E]]
        return distance_E[:count].cpu().numpy(), copies_E.cpu().numpy()

    def dbscan(self, near: ArrayPairs, sizes_U: NDArray[np.int64], eps: float, min_samples: int) -> NDArray[np.int64]:
        return dbscan(near, to_device(sizes_U, self.device), eps, min_samples).cpu().numpy()

    def silhouettes(
        self, weights: Weights, chosen_S: NDArray[np.int64], labels_U: NDArray[np.int64], sizes_K: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        chosen, labels, sizes = (to_device(array, self.device) for array in (chosen_S, labels_U, sizes_K))
        return pairs.silhouettes(weights, chosen, labels, sizes).cpu().numpy()

    def centers(self, prepared: Prepared, labels_N: NDArray[np.int64], normalized: bool) -> NDArray[np.float32]:
        return cluster_centers(prepared, labels_N, normalized, torch.get_num_threads())

    def peaks(self) -> dict[str, int]:
        return {"torch": torch.cuda.max_memory_allocated(self.device)} if self.device.type == "cuda" else {}

    def release(self) -> None:
        self._prepared = self._features = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def dbscan(pairs: ArrayPairs, sizes_U: Tensor, eps: float, min_samples: int) -> Tensor:
    """DBSCAN's label of each group of copies, int64 [U]: clusters by their first core point, a border point to the first of its
    clusters, as scikit-learn does."""
    near_E = pairs.distance_E <= eps
    u_E, w_E = pairs.u_E[near_E], pairs.w_E[near_E]
    neighbours_U = sizes_U.clone().index_add_(0, u_E, sizes_U[w_E]).index_add_(0, w_E, sizes_U[u_E])
    core_U = neighbours_U >= min_samples
    both_E = core_U[u_E] & core_U[w_E]
    roots_U = _components(len(sizes_U), u_E[both_E], w_E[both_E])
    labels_U = torch.full_like(sizes_U, -1)
    labels_U[core_U] = torch.unique(roots_U[core_U], return_inverse=True)[1]
    one_E = core_U[u_E] != core_U[w_E]
    u_E, w_E = u_E[one_E], w_E[one_E]
    core_E, border_E = torch.where(core_U[u_E], u_E, w_E), torch.where(core_U[u_E], w_E, u_E)
    none = len(sizes_U)
    first_U = torch.full_like(sizes_U, none).scatter_reduce_(0, border_E, labels_U[core_E], "amin")
    return torch.where(core_U | (first_U == none), labels_U, first_U)


def _components(count: int, u_E: Tensor, w_E: Tensor) -> Tensor:
    """The smallest point of each point's connected component: trees are hooked onto the smallest root that they touch, then every
    point jumps to its root, until no edge joins two trees."""
    parent_U = torch.arange(count, device=u_E.device)
    while True:
        a_E, b_E = parent_U[u_E], parent_U[w_E]
        if torch.equal(a_E, b_E):
            return parent_U
        parent_U = parent_U.scatter_reduce(0, torch.maximum(a_E, b_E), torch.minimum(a_E, b_E), "amin")
        while not torch.equal(parent_U, jumped_U := parent_U[parent_U]):
            parent_U = jumped_U

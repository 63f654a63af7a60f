"""The stages of a labelling on a CPU: compiled loops on a few threads."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.labels.cpu import clustering
from distreid.retrieval import jaccard, neighbours, reciprocal
from distreid.retrieval.blocks import Progress, run_blocks
from distreid.retrieval.jaccard import Pairs, Weights
from distreid.retrieval.lists import Lists, Neighbours
from distreid.retrieval.prepare import Prepared
from distreid.retrieval.reciprocal import Csr


class CpuStages:
    """Implements `distreid.labels.stages.Stages`."""

    device = torch.device("cpu")

    def __init__(self, threads: int, progress: Progress | None = None) -> None:
        self._threads, self._progress = threads, progress

    def search(self, prepared: Prepared, k: int, *, apart_U: NDArray[np.int64] | None = None) -> Neighbours:
        return neighbours.nearest(prepared, k, apart_U=apart_U, threads=self._threads, progress=self._progress)

    def reciprocal(self, prepared: Prepared, lists: Lists) -> Csr:
        return reciprocal.reciprocal_weights(prepared, lists, self._threads)

    def rows(self, v: Csr) -> Csr:
        return v

    def expand(self, v: Csr, prepared: Prepared, lists: Lists) -> Weights:
        expanded = reciprocal.expand_queries(v, lists.expansion_Uq, self._threads)
        return Weights.of(expanded, len(prepared.group_N), prepared.sizes)

    def sample_distances(self, weights: Weights, step: int) -> Iterable[NDArray[np.float64]]:
        return jaccard.sample_distances(weights, step)

    def pairs_within(self, weights: Weights, cutoff: float) -> Pairs:
        return jaccard.pairs_within(weights, cutoff, self._threads)

    def smallest(self, near: Pairs, sizes_U: NDArray[np.int64], count: int) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        copies = jaccard.copies_of(near.graph, sizes_U) if (sizes_U > 1).any() else None
        return near.graph.data, copies

    def dbscan(self, near: Pairs, sizes_U: NDArray[np.int64], eps: float, min_samples: int) -> NDArray[np.int64]:
        return clustering.dbscan(near.graph, sizes_U, eps, min_samples)

    def silhouettes(
        self, weights: Weights, chosen_S: NDArray[np.int64], labels_U: NDArray[np.int64], sizes_K: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        values_S = np.empty(len(chosen_S))

        def part(start: int, stop: int) -> None:
            clustering.silhouettes(start, stop, chosen_S, labels_U, weights.sizes_U, sizes_K, weights.v, values_S)

        run_blocks(part, len(chosen_S), 256, self._threads)
        return values_S

    def centers(self, prepared: Prepared, labels_N: NDArray[np.int64], normalized: bool) -> NDArray[np.float32]:
        return clustering.cluster_centers(prepared, labels_N, normalized, self._threads)

    def peaks(self) -> dict[str, int]:
        return {}

    def release(self) -> None:
        """Nothing is kept."""

"""The stages of a labelling on a CPU: compiled loops on a few threads."""

import numpy as np
from numpy.typing import NDArray

from distreid.labels import quality
from distreid.labels.cpu import clustering
from distreid.retrieval import jaccard as pairs
from distreid.retrieval import neighbours
from distreid.retrieval import reciprocal as jaccard
from distreid.retrieval.jaccard import Pairs, Weights
from distreid.retrieval.lists import Lists, Neighbours
from distreid.retrieval.neighbours import Progress
from distreid.retrieval.prepare import Prepared
from distreid.retrieval.reciprocal import Csr


class CpuStages:
    """Implements `distreid.labels.stages.Stages`."""

    def __init__(self, threads: int, progress: Progress | None = None) -> None:
        self._threads, self._progress = threads, progress

    def search(self, prepared: Prepared, k: int, *, apart_U: NDArray[np.int64] | None = None) -> Neighbours:
        return neighbours.nearest(prepared, k, apart_U=apart_U, threads=self._threads, progress=self._progress)

    def reciprocal(self, prepared: Prepared, lists: Lists) -> Csr:
        return jaccard.reciprocal_weights(prepared, lists, self._threads)

    def expand(self, v: Csr, prepared: Prepared, lists: Lists) -> Weights:
        expanded = jaccard.expand_queries(v, lists, self._threads)
        return Weights.of(expanded, len(prepared.group_N), prepared.sizes)

    def pairs_within(self, weights: Weights, cutoff: float) -> Pairs:
        return pairs.pairs_within(weights, cutoff, self._threads)

    def nearest_pairs(self, weights: Weights, asked: int) -> Pairs:
        return pairs.nearest_pairs(weights, asked, self._threads)

    def eps(self, near: Pairs, sizes_U: NDArray[np.int64], asked: int) -> float:
        return clustering.eps_of_pairs(near, sizes_U, asked)

    def dbscan(self, near: Pairs, sizes_U: NDArray[np.int64], eps: float, min_samples: int) -> NDArray[np.int64]:
        return clustering.dbscan_pairs(near.graph, sizes_U, eps, min_samples)

    def silhouette(self, weights: Weights, labels_U: NDArray[np.int64]) -> float:
        return quality.silhouette(weights, labels_U, self._threads)

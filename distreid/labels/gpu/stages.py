"""The stages of a labelling by the kernels of kernels.cu, over numpy's functions as CuPy has them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distreid.labels.gpu.clustering import Clustering
from distreid.labels.pairs import ArrayPairs
from distreid.labels.stages import members_of
from distreid.labels.torch_engine import neighbours
from distreid.labels.torch_engine.tensors import Features
from distreid.retrieval import jaccard
from distreid.retrieval.blocks import Progress
from distreid.retrieval.gpu import encoding
from distreid.retrieval.gpu.backend import Backend, scoped
from distreid.retrieval.gpu.encoding import Given, Rows
from distreid.retrieval.lists import Lists, Neighbours
from distreid.retrieval.prepare import Prepared
from distreid.retrieval.reciprocal import Csr

PIECE = 1 << 25  # pairs of a sample that are on the device at once


@dataclass(frozen=True)
class KernelFeatures(Features):
    """Features whose distances a kernel makes: without the float64 copies of rows that torch would need."""

    backend: Backend

    @classmethod
    def by(cls, backend: Backend, prepared: Prepared) -> "KernelFeatures":
        """Moved to the backend's device."""
        plain = Features.of(prepared, backend.device)
        return cls(plain.x_ND, plain.inverse_norms_N, plain.group_N, plain.first_U, plain.sizes_U, backend)

    def distances(self, i_E: Tensor, j_E: Tensor) -> Tensor:
        backend = self.backend
        with backend.scope():
            given = map(backend.array, (self.x_ND, self.inverse_norms_N, i_E.int(), j_E.int()))
            return backend.tensor(encoding.distances(backend, *given))


@dataclass(frozen=True)
class Weights:
    """V after the query expansion, [U, N], by row and by column as the kernels want it. sizes_U: copies of each group, int64."""

    v: tuple[Any, ...]
    sizes_U: Any


@dataclass(frozen=True)
class KernelPairs(ArrayPairs):
    """Pairs of the backend's arrays."""

    backend: Backend

    def on_host(self, array_E: Any) -> NDArray[Any]:
        return self.backend.host(array_E)

    def within(self, eps: float) -> Self:
        with self.backend.scope():
            return super().within(eps)


class KernelStages:
    """Implements `distreid.labels.stages.Stages`. Every array has the bits of the compiled engine's.

    tile: of the neighbour search.
    """

    def __init__(
        self,
        backend: Backend,
        clustering: Clustering,
        progress: Progress | None = None,
        *,
        tile: tuple[int, int] = neighbours.TILE,
    ) -> None:
        self.backend, self.device, self._tile = backend, backend.device, tile
        self._clustering, self._progress = clustering, progress
        self._prepared: Prepared | None = None
        self._features: KernelFeatures | None = None

    def _on_device(self, prepared: Prepared) -> KernelFeatures:
        """The features, moved once."""
        if self._features is None or self._prepared is not prepared:
            self._features = None  # the old ones go before the new ones come
            self._prepared, self._features = prepared, KernelFeatures.by(self.backend, prepared)
        return self._features

    def _run(self, name: str, blocks: int, *arguments: Any, ints: int = 0, dtype: Any = np.float32) -> None:
        encoding.run(self.backend, name, blocks, *arguments, ints=ints, dtype=dtype)

    def _blocks(self, rows: int, numbers: int) -> int:
        return encoding.blocks_for(self.backend, rows, numbers)

    def _scratch(self, blocks: int, numbers: int) -> tuple[Any, Any]:
        return encoding.scratch(self.backend, blocks, numbers)

    @scoped
    def search(self, prepared: Prepared, k: int, *, apart_U: NDArray[np.int64] | None = None) -> Neighbours:
        return neighbours.nearest(prepared, self._on_device(prepared), k, apart_U=apart_U, tile=self._tile, progress=self._progress)

    @scoped
    def reciprocal(self, prepared: Prepared, lists: Lists) -> Rows:
        xp, features = self.backend.xp, self._on_device(prepared)
        x_ND, inverse_norms_N = map(self.backend.array, (features.x_ND, features.inverse_norms_N))
        near_Uk, squared_Uk = (
            xp.asarray(np.ascontiguousarray(lists.neighbours_Uk)),
            xp.asarray(np.ascontiguousarray(lists.squared_Uk)),
        )
        given = Given(near_Uk, xp.asarray(prepared.group_N), lists.half, x_ND, squared_Uk, inverse_norms_N)
        return encoding.reciprocal_rows(self.backend, given, weights=True)

    @scoped
    def rows(self, v: Rows) -> Csr:
        return Csr(*map(self.backend.host, (v.offsets, v.columns, v.values)))

    @scoped
    def expand(self, v: Rows, prepared: Prepared, lists: Lists) -> Weights:
        nearest_Uq = self.backend.xp.asarray(np.ascontiguousarray(lists.expansion_Uq))
        u, rows_E = encoding.expand_queries(self.backend, v, nearest_Uq)
        by_column = encoding.by_column(self.backend, rows_E, u.columns, u.values, len(v.offsets) - 1)
        return Weights((u.offsets, u.columns, u.values, *by_column), self.backend.xp.asarray(prepared.sizes))

    @scoped
    def sample_distances(self, weights: Weights, step: int) -> Iterator[NDArray[np.float64]]:
        return self._pieces(weights, self._count_pairs(weights, step, 1.0)[0], step)

    def _pieces(self, weights: Weights, lengths_R: Any, step: int) -> Iterator[NDArray[np.float64]]:
        ends = np.cumsum(self.backend.host(lengths_R), dtype=np.int64)
        first = 0
        while first < len(ends):
            done = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, done + PIECE, side="right")), first + 1)
            with self.backend.scope():
                distances = self.backend.host(self._pairs(weights, lengths_R[first:last], step, 1.0, first)[2])
            yield distances
            first = last

    @scoped
    def pairs_within(self, weights: Weights, cutoff: float) -> KernelPairs:
        sizes_U = weights.sizes_U
        lengths_U, total = self._count_pairs(weights, 1, cutoff)
        jaccard.check_linear(int(lengths_U.sum(dtype=np.int64)), len(sizes_U))
        u_E, w_E, distance_E = self._pairs(weights, lengths_U, 1, cutoff)
        near = int((sizes_U[u_E] * sizes_U[w_E]).sum()) + int((sizes_U * (sizes_U - 1) // 2).sum())
        return KernelPairs(u_E, w_E, distance_E, cutoff, total, near, len(sizes_U), self.backend)

    def _count_pairs(self, weights: Weights, step: int, cutoff: float) -> tuple[Any, int]:
        """(pairs u < w with J ≤ cutoff of every `step`-th u, pairs of points with J < 1)."""
        xp, rows = self.backend.xp, -(-len(weights.sizes_U) // step)
        lengths_R, total = xp.empty(rows, np.int32), xp.zeros(1, np.uint64)
        self._launch_pairs(weights, 0, rows, step, cutoff, 0, None, lengths_R, total, None, None, None)
        return lengths_R, int(total[0])

    def _pairs(self, weights: Weights, lengths_R: Any, step: int, cutoff: float, first: int = 0) -> tuple[Any, Any, Any]:
        """(u, w, J) of the counted pairs, of the rows (first + r)·step."""
        xp, offsets = self.backend.xp, encoding.offsets_of(self.backend, lengths_R)
        entries = int(offsets[-1])
        found = xp.empty(entries, np.int32), xp.empty(entries, np.int32), xp.empty(entries, np.float64)
        again, total = xp.empty(len(lengths_R), np.int32), xp.zeros(1, np.uint64)
        self._launch_pairs(weights, first, len(lengths_R), step, cutoff, 1, offsets, again, total, *found)
        return found

    def _launch_pairs(self, weights: Weights, first: int, rows: int, step: int, cutoff: float, fill: int, *out: Any) -> None:
        points = len(weights.sizes_U)
        blocks = self._blocks(rows, points)
        known = points, first, rows, step, cutoff, weights.sizes_U, *weights.v, *self._scratch(blocks, points)
        self._run("jaccard_pairs", blocks, *known, fill, *out, ints=2)

    @scoped
    def smallest(
        self, near: KernelPairs, sizes_U: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        xp, host = self.backend.xp, self.backend.host
        order_E = xp.argsort(near.distance_E, kind="stable")[:count]
        distance_E = host(near.distance_E[order_E])
        if not (sizes_U > 1).any():
            return distance_E, None
        sizes = xp.asarray(sizes_U)
        return distance_E, host(sizes[near.u_E[order_E]] * sizes[near.w_E[order_E]])

    @scoped
    def dbscan(self, near: KernelPairs, sizes_U: NDArray[np.int64], eps: float, min_samples: int) -> NDArray[np.int64]:
        within = near.within(eps)
        return self._clustering.dbscan(self.backend, within.u_E, within.w_E, sizes_U, min_samples)

    @scoped
    def silhouettes(
        self, weights: Weights, chosen_S: NDArray[np.int64], labels_U: NDArray[np.int64], sizes_K: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        xp, points, clusters = self.backend.xp, len(weights.sizes_U), len(sizes_K)
        blocks, values_S = self._blocks(len(chosen_S), points + clusters), xp.empty(len(chosen_S), np.float64)
        chosen, labels = xp.asarray(chosen_S.astype(np.int32)), xp.asarray(labels_U.astype(np.int32))
        known = len(chosen_S), points, clusters, chosen, labels, weights.sizes_U, xp.asarray(sizes_K), *weights.v
        alike_BK = xp.zeros((blocks, clusters), np.float64)
        self._run("silhouettes", blocks, *known, *self._scratch(blocks, points), alike_BK, values_S, ints=1)
        return self.backend.host(values_S)

    @scoped
    def centers(self, prepared: Prepared, labels_N: NDArray[np.int64], normalized: bool) -> NDArray[np.float32]:
        xp, features = self.backend.xp, self._on_device(prepared)
        x_ND, inverse_norms_N = map(self.backend.array, (features.x_ND, features.inverse_norms_N))
        members, offsets = members_of(labels_N)
        scales_N = inverse_norms_N if normalized else xp.full(len(x_ND), 1.0, np.float64)
        centers_KD = xp.empty((len(offsets) - 1, x_ND.shape[1]), np.float32)
        known = x_ND.shape[1], xp.asarray(members), xp.asarray(offsets), x_ND, scales_N
        self._run("centers", len(centers_KD), *known, centers_KD, dtype=x_ND.dtype)
        return self.backend.host(centers_KD)

    @scoped
    def release(self) -> None:
        self._prepared = self._features = None
        self.backend.release()

    def peaks(self) -> dict[str, int]:
        return self.backend.peaks()

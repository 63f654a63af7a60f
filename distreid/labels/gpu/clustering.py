"""DBSCAN of the pairs within eps: which points are core points and where border points belong is decided here, in integers; which
core points hang together by cuML, or by a union-find on the graph."""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.retrieval.gpu.backend import Backend
from distreid.retrieval.gpu.encoding import NOT_REACHED

log = logging.getLogger(__name__)

CUML_BYTES = 5  # of each entry of the dense matrix: float32, and cuML's own flag
EXACT_IN_FLOAT32 = 1 << 24  # cuML counts neighbours in float32


@dataclass
class Clustering:
    """kind: `labels.dbscan`. dense_bytes: what the dense matrix of cuML may take, 0 for a quarter of the free memory.
    cuml: the class `cuml.cluster.DBSCAN`, None where cuML is not installed."""

    kind: Literal["auto", "cuml", "graph"] = "graph"
    dense_bytes: int = 0
    cuml: Any = None

    def dbscan(self, backend: Backend, u_E: Any, w_E: Any, sizes_U: NDArray[np.int64], min_samples: int) -> NDArray[np.int64]:
        """Labels of the groups of copies as `distreid.labels.stages.Stages.dbscan`, given the pairs u < w within eps."""
        xp, points = backend.xp, len(sizes_U)
        sizes, near_U = xp.asarray(sizes_U), xp.asarray(sizes_U.astype(np.uint64))
        _each(backend, "degrees", len(u_E), u_E, w_E, sizes, near_U)
        core_U = (near_U >= min_samples).astype(np.uint8)
        first_U = self._first_cores(backend, u_E, w_E, core_U, sizes_U, min_samples)
        # A cluster's number is how many first core points come before its own.
        is_first_U = (first_U == xp.arange(points, dtype=np.int32)) & (core_U == 1)
        number_U = xp.cumsum(is_first_U, dtype=np.int32) - np.int32(1)
        cluster_U = xp.where(core_U == 1, number_U[first_U], np.int32(-1)).astype(np.int32)
        reached_U = xp.full(points, NOT_REACHED, np.int32)
        _each(backend, "borders", len(u_E), u_E, w_E, core_U, cluster_U, reached_U)
        return backend.host(xp.where(reached_U == NOT_REACHED, cluster_U, reached_U)).astype(np.int64)

    def _first_cores(self, backend: Backend, u_E: Any, w_E: Any, core_U: Any, sizes_U: NDArray[np.int64], min_samples: int) -> Any:
        """The first core point of each core point's component, int32 [U]; any point for others."""
        xp, points = backend.xp, len(sizes_U)
        if self._by_cuml(backend, sizes_U):
            backend.release()  # cuML has a pool of its own, or none
            try:
                component_U = _components(self.cuml, xp, u_E, w_E, sizes_U, min_samples)
            except (MemoryError, RuntimeError) as error:
                if self.kind == "cuml" and isinstance(error, MemoryError):
                    raise
                self._give_up(str(error) or type(error).__name__)
            else:
                if _plausible(component_U, core_U, u_E, w_E):
                    first_K = xp.full(points, NOT_REACHED, np.int32)
                    component_U = xp.where(component_U < 0, 0, component_U).astype(np.int32)
                    _each(backend, "first_cores", points, core_U, component_U, first_K)
                    return xp.where(core_U == 1, first_K[component_U], 0).astype(np.int32)
                self._give_up("its clusters part neighbours")
        parent_U, root_U = xp.arange(points, dtype=np.int32), xp.empty(points, np.int32)
        _each(backend, "join", len(u_E), u_E, w_E, core_U, parent_U)
        _each(backend, "flatten", points, parent_U, root_U)
        return root_U

    def _by_cuml(self, backend: Backend, sizes_U: NDArray[np.int64]) -> bool:
        """Whether cuML is to do it. UserError where it must and cannot."""
        if self.cuml is None or self.kind == "graph":
            return False
        needed, room = CUML_BYTES * len(sizes_U) ** 2, self.dense_bytes or backend.free_bytes() // 4
        if needed <= room and sizes_U.sum() < EXACT_IN_FLOAT32:
            return True
        if self.kind == "cuml":
            raise UserError(
                f"labels.dbscan=cuml needs {needed / 1e9:.1f} GB for {len(sizes_U):,} distinct features and may take "
                f"{room / 1e9:.1f}: set labels.dense_gb, or labels.dbscan=auto"
            )
        return False

    def _give_up(self, reason: str) -> None:
        log.warning(
            "cuML's DBSCAN failed (%s): clusters are found on the sparse graph, with the same labels", reason.split("\n")[0]
        )
        self.cuml = None


def _each(backend: Backend, name: str, count: int, *arguments: Any) -> None:
    """A kernel with a thread for each of `count` entries."""
    backend.kernels(np.float32)(name, -(-count // backend.threads), backend.threads, count, *arguments)


def _components(cuml: Any, xp: Any, u_E: Any, w_E: Any, sizes_U: NDArray[np.int64], min_samples: int) -> Any:
    """cuML's clusters [U] of a dense matrix of 0 (within eps, as decided in float64) and 1, for cuML rounds eps to float32.

    Border points are not to be used: where cuML works in several batches, it gives them to other clusters than scikit-learn does.
    """
    points = len(sizes_U)
    matrix_UU = xp.full((points, points), 1.0, np.float32)
    flat = matrix_UU.reshape(-1)
    for rows, columns in ((u_E, w_E), (w_E, u_E)):
        flat[rows.astype(np.int64) * points + columns] = 0
    flat[xp.arange(points, dtype=np.int64) * (points + 1)] = 0
    # Core points would be a second dense matrix. Indices of a matrix this large are int64.
    model = cuml(eps=0.5, min_samples=min_samples, metric="precomputed", calc_core_sample_indices=False, output_type="cupy")
    wide = "int64" if matrix_UU.size > np.iinfo(np.int32).max else "int32"
    return xp.asarray(model.fit_predict(matrix_UU, sample_weight=xp.asarray(sizes_U.astype(np.float32)), out_dtype=wide))


def _plausible(component_U: Any, core_U: Any, u_E: Any, w_E: Any) -> bool:
    """Whether every core point has a component, and core points within eps of each other the same."""
    if bool(((component_U < 0) & (core_U == 1)).any()):
        return False
    return not bool(((component_U[u_E] != component_U[w_E]) & (core_U[u_E] == 1) & (core_U[w_E] == 1)).any())

"""Features in, pseudo-labels out: the stages in order. The compiled stages are imported on first use, numba with them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.errors import UserError
from distreid.labels.result import PseudoLabels
from distreid.labels.threads import peak_memory_bytes

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

K1, K2, P, MIN_SAMPLES = 30, 6, 1.6e-3, 4


def make_pseudo_labels(
    features_ND: NDArray[np.floating],
    *,
    k1: int = K1,
    k2: int = K2,
    p: float = P,
    min_samples: int = MIN_SAMPLES,
    eps: float | None = None,
    normalize_centers: bool = True,
    previous_labels_N: NDArray[np.int64] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PseudoLabels:
    """Pseudo-labels of one round (DAAM's Algorithm 1): Jaccard distances → eps → DBSCAN → centres.

    features_ND: float16, float32 or float64 [N, D], any norm; distances are those of the L2-normalised features.
    k1, k2: neighbours of the k-reciprocal sets (the point itself included) and of the query expansion.
    p: eps is the mean of the smallest proportion p of all N(N−1)/2 pair distances, zeros included; `eps` given: used instead.
    min_samples: DBSCAN's, the point itself counted.
    normalize_centers: centres are means of normalised features, as used for matching; false: of the features as given.
    previous_labels_N: the last round's labels of the same points, to report how far the two agree.
    device: where the neighbour products run, "cpu" or "cuda". threads: of the compiled stages, by default as many as torch uses.
    progress: called with (rows searched, rows) during the neighbour search.

    Exact and deterministic: neighbours are ordered by float64 distance, ties by index, whatever the device or number of threads.
    Memory grows with N·(k1 + D), never with N². Raises UserError for features or settings that cannot be labelled.
    """
    _require_numba()
    from distreid.labels import clustering, jaccard, pairs, quality
    from distreid.labels.neighbours import nearest
    from distreid.labels.prepare import check_settings, prepare

    check_settings(k1, k2, p, min_samples, eps)
    _check_device(device)
    threads = threads or torch.get_num_threads()
    seconds: dict[str, float] = {}
    with _timed(seconds, "check"):
        prepared = prepare(features_ND, k1, threads)
        count, sizes_U = len(prepared.group_N), np.diff(prepared.offsets_U1)
        if len(sizes_U) == 1:
            raise UserError(f"all {count} features are identical: the network has collapsed, or the file is not what it should be")
        asked = clustering.pairs_asked(p, count) if eps is None else 0
        if previous_labels_N is not None and len(previous_labels_N) != count:
            raise UserError(f"{len(previous_labels_N)} previous labels for {count} features: give those of the same points or none")
    with _timed(seconds, "neighbours"):
        neighbours_Uk, squared_Uk = nearest(prepared, k1, device=device, threads=threads, progress=progress)
    with _timed(seconds, "reciprocal"):
        by_row = jaccard.reciprocal_weights(prepared, neighbours_Uk, squared_Uk, threads)
    with _timed(seconds, "expansion"):
        by_row = jaccard.expand_queries(by_row, neighbours_Uk, k2, threads)
        weights = pairs.Weights.of(by_row, count, sizes_U)
    with _timed(seconds, "jaccard"):
        near = pairs.pairs_within(weights, eps, threads) if eps is not None else pairs.nearest_pairs(weights, asked, threads)
    with _timed(seconds, "eps"):
        if eps is None:
            eps = clustering.eps_of_pairs(near, sizes_U, asked)
    with _timed(seconds, "dbscan"):
        labels_U = clustering.dbscan_pairs(near.graph, sizes_U, eps, min_samples)
        labels_N = labels_U[prepared.group_N]
    with _timed(seconds, "centers"):
        centers_KD = clustering.cluster_centers(prepared, labels_N, normalize_centers, threads)
    with _timed(seconds, "quality"):
        figures = quality.sizes(labels_N) | {"silhouette": quality.silhouette(weights, labels_U, threads)}
        if previous_labels_N is not None:
            figures |= quality.agreement(labels_N, np.asarray(previous_labels_N))
    stats = {f"seconds_{stage}": took for stage, took in seconds.items()}
    stats |= {
        "seconds": sum(seconds.values()),
        "distinct_features": float(len(sizes_U)),
        "pairs": float(near.total + pairs.zero_pairs(sizes_U)),
    }
    stats |= {"pairs_held": float(len(near.graph.data)), "peak_process_bytes": float(peak_memory_bytes())}
    return PseudoLabels(labels_N, centers_KD, eps, normalize_centers, figures, stats)


def jaccard_graph(
    features_ND: NDArray[np.floating], k1: int = K1, k2: int = K2, *, device: str = "cpu", threads: int | None = None
) -> "csr_matrix":
    """Jaccard distances of all pairs with J < 1: symmetric scipy CSR, float64 [N, N], indices sorted, explicit zeros kept, the
    diagonal stored (as zeros). A pair that is not stored is at distance 1.
    """
    _require_numba()
    from distreid.labels import jaccard, pairs
    from distreid.labels.neighbours import nearest
    from distreid.labels.prepare import check_settings, prepare

    check_settings(k1, k2, None, 1, 0.0)
    _check_device(device)
    threads = threads or torch.get_num_threads()
    prepared = prepare(features_ND, k1, threads)
    neighbours_Uk, squared_Uk = nearest(prepared, k1, device=device, threads=threads)
    by_row = jaccard.reciprocal_weights(prepared, neighbours_Uk, squared_Uk, threads)
    by_row = jaccard.expand_queries(by_row, neighbours_Uk, k2, threads).rows(prepared.group_N)
    count = len(prepared.group_N)
    weights = pairs.Weights.of(by_row, count, np.ones(count, np.int64))
    return pairs.symmetric(pairs.pairs_within(weights, 1.0, threads).graph)


def eps_from_proportion(graph: "csr_matrix", p: float, count: int) -> float:
    """Mean of the smallest round(p·N(N−1)/2) pair distances of a `jaccard_graph` of N = `count` points: zeros count, pairs that are
    not stored count as 1."""
    _require_numba()
    from distreid.labels import clustering

    rows = np.repeat(np.arange(count, dtype=graph.indices.dtype), np.diff(graph.indptr))
    return clustering.mean_of_smallest(graph.data[graph.indices > rows], clustering.pairs_asked(p, count), None, 0)


def dbscan(graph: "csr_matrix", eps: float, min_samples: int) -> NDArray[np.int64]:
    """DBSCAN's labels [N] on a symmetric graph of distances (pairs that are not stored are at 1): those of scikit-learn's
    DBSCAN(metric="precomputed") on the dense matrix, border points included."""
    count = graph.shape[0]
    if eps >= 1:
        return np.full(count, 0 if count >= min_samples else -1, np.int64)
    _require_numba()
    from distreid.labels import clustering
    from distreid.labels.jaccard import Csr

    entries = Csr(graph.indptr, graph.indices, graph.data)
    return clustering.dbscan_pairs(entries, np.ones(count, np.int64), eps, min_samples)


def _check_device(device: str) -> None:
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise UserError(f"device = {device}: torch has no such device here; use cpu")


def _require_numba() -> None:
    try:
        import numba  # noqa: F401
    except ImportError as error:
        raise UserError("pseudo-labels need the package numba: pip install 'numba>=0.60'") from error


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begin

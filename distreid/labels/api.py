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
from distreid.labels.settings import K1, K2, MIN_SAMPLES, CameraLists, NeighbourKind, P, check_settings
from distreid.retrieval.blocks import peak_memory_bytes

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from distreid.labels.stages import Stages
    from distreid.retrieval.lists import Search


def make_pseudo_labels(
    features_ND: NDArray[np.floating],
    *,
    k1: int = K1,
    k2: int = K2,
    p: float = P,
    min_samples: int = MIN_SAMPLES,
    eps: float | None = None,
    camids_N: NDArray[np.integer] | None = None,
    cameras: CameraLists | None = None,
    normalize_centers: bool = True,
    previous_labels_N: NDArray[np.int64] | None = None,
    neighbours: NeighbourKind = "exact",
    search: "Search | None" = None,
    device: str = "cpu",
    stages: "Stages | None" = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PseudoLabels:
    """Pseudo-labels of one round (DAAM's Algorithm 1): Jaccard distances → eps → DBSCAN → centres.

    features_ND: float16, float32 or float64 [N, D], any norm; distances are those of the L2-normalised features.
    k1, k2: neighbours of the k-reciprocal sets (the point itself included) and of the query expansion.
    p: eps is the mean of the smallest proportion p of all N(N−1)/2 pair distances, zeros included; `eps` given: used instead.
    min_samples: DBSCAN's, the point itself counted.
    camids_N: the cameras [N]; given, distances are camera-aware (CA-Jaccard): `cameras` then takes the place of k1 and k2.
    normalize_centers: centres are means of normalised features, as used for matching; false: of the features as given.
    previous_labels_N: the last round's labels of the same points, to report how far the two agree.
    neighbours: "exact", or approximate ones of faiss, "ivf" or "hnsw", whose measured recall is in the stats.
    search: an exact search in place of the engine's own (many machines: `distreid.cluster.search`).
    device: "cpu", or "cuda" for an engine whose heavy stages run on the GPU, with the same labels. stages: an engine in place of
    the one that `device` names.
    threads: of the compiled stages, by default as many as torch uses. progress: called with (rows searched, rows).

    Exact and deterministic: neighbours are ordered by float64 distance, ties by index, whatever the device or number of threads.
    Memory grows with N·(k1 + D), never with N². Raises UserError for features or settings that cannot be labelled.
    """
    threads = threads or torch.get_num_threads()
    stages = stages or stages_of(device, threads, progress)
    from distreid.labels import quality
    from distreid.labels.cpu import clustering
    from distreid.retrieval.approximate import ApproximateSearch
    from distreid.retrieval.lists import camera_lists, plain_lists
    from distreid.retrieval.prepare import prepare

    check_settings(k1, k2, p, min_samples, eps)
    seconds: dict[str, float] = {}
    with _timed(seconds, "check"):
        prepared = prepare(features_ND, k1 if camids_N is None else 1, threads, camids_N)
        count, sizes_U = len(prepared.group_N), prepared.sizes
        asked = clustering.pairs_asked(p, count) if eps is None else 0
        if previous_labels_N is not None and len(previous_labels_N) != count:
            raise UserError(f"{len(previous_labels_N)} previous labels for {count} features: give those of the same points or none")
    with _timed(seconds, "neighbours"):
        approximate = None if neighbours == "exact" else ApproximateSearch(neighbours, threads)
        find = approximate or search or stages.search
        if camids_N is None:
            lists = plain_lists(prepared, k1, k2, find)
        else:
            lists = camera_lists(prepared, camids_N, cameras or CameraLists(), find)
    with _timed(seconds, "reciprocal"):
        v = stages.reciprocal(prepared, lists)
    with _timed(seconds, "expansion"):
        weights = stages.expand(v, prepared, lists)
        del v
    with _timed(seconds, "jaccard"):
        near = stages.nearest_pairs(weights, asked) if eps is None else stages.pairs_within(weights, eps)
    with _timed(seconds, "eps"):
        if eps is None:
            eps = stages.eps(near, sizes_U, asked)
    with _timed(seconds, "dbscan"):
        labels_U = stages.dbscan(near, sizes_U, eps, min_samples)
        labels_N = labels_U[prepared.group_N]
    with _timed(seconds, "centers"):
        centers_KD = clustering.cluster_centers(prepared, labels_N, normalize_centers, threads)
    with _timed(seconds, "quality"):
        figures = quality.sizes(labels_N) | {"silhouette": stages.silhouette(weights, labels_U)}
        if previous_labels_N is not None:
            figures |= quality.agreement(labels_N, np.asarray(previous_labels_N))
    stats = {f"seconds_{stage}": took for stage, took in seconds.items()}
    stats |= {"seconds": sum(seconds.values()), "distinct_features": float(len(sizes_U))}
    stats |= {"pairs": float(near.total + clustering.zero_pairs(sizes_U)), "pairs_held": float(near.held)}
    if approximate is not None:
        stats["recall"] = approximate.recall
    stats |= {"peak_process_bytes": float(peak_memory_bytes())}
    if device != "cpu":
        stats["peak_device_bytes"] = float(torch.cuda.max_memory_allocated(device))
    return PseudoLabels(labels_N, centers_KD, eps, normalize_centers, figures, stats)


def jaccard_graph(
    features_ND: NDArray[np.floating],
    k1: int = K1,
    k2: int = K2,
    *,
    camids_N: NDArray[np.integer] | None = None,
    cameras: CameraLists | None = None,
    threads: int | None = None,
) -> "csr_matrix":
    """Jaccard distances of all pairs with J < 1: symmetric scipy CSR, float64 [N, N], indices sorted, explicit zeros kept, the
    diagonal stored (as zeros). A pair that is not stored is at distance 1. `camids_N`, `cameras`: see `make_pseudo_labels`.
    """
    threads = threads or torch.get_num_threads()
    search = stages_of("cpu", threads, None).search
    from distreid.retrieval import jaccard as pairs
    from distreid.retrieval import reciprocal as jaccard
    from distreid.retrieval.lists import camera_lists, plain_lists
    from distreid.retrieval.prepare import prepare

    check_settings(k1, k2, None, 1, 0.0)
    prepared = prepare(features_ND, k1 if camids_N is None else 1, threads, camids_N)
    if camids_N is None:
        lists = plain_lists(prepared, k1, k2, search)
    else:
        lists = camera_lists(prepared, camids_N, cameras or CameraLists(), search)
    by_row = jaccard.expand_queries(jaccard.reciprocal_weights(prepared, lists, threads), lists, threads).rows(prepared.group_N)
    count = len(prepared.group_N)
    weights = pairs.Weights.of(by_row, count, np.ones(count, np.int64))
    return pairs.symmetric(pairs.pairs_within(weights, 1.0, threads).graph)


def eps_from_proportion(graph: "csr_matrix", p: float, count: int) -> float:
    """Mean of the smallest round(p·N(N−1)/2) pair distances of a `jaccard_graph` of N = `count` points: zeros count, pairs that are
    not stored count as 1."""
    _require_numba()
    from distreid.labels.cpu import clustering

    rows = np.repeat(np.arange(count, dtype=graph.indices.dtype), np.diff(graph.indptr))
    return clustering.mean_of_smallest(graph.data[graph.indices > rows], clustering.pairs_asked(p, count), None, 0)


def dbscan(graph: "csr_matrix", eps: float, min_samples: int) -> NDArray[np.int64]:
    """DBSCAN's labels [N] on a symmetric graph of distances (pairs that are not stored are at 1): those of scikit-learn's
    DBSCAN(metric="precomputed") on the dense matrix, border points included."""
    count = graph.shape[0]
    if eps >= 1:
        return np.full(count, 0 if count >= min_samples else -1, np.int64)
    _require_numba()
    from distreid.labels.cpu import clustering
    from distreid.retrieval.reciprocal import Csr

    entries = Csr(graph.indptr, graph.indices, graph.data)
    return clustering.dbscan_pairs(entries, np.ones(count, np.int64), eps, min_samples)


def check_device(device: str) -> None:
    """UserError when labels cannot be made on this device of this machine."""
    if device != "cpu" and not device.startswith("cuda"):
        raise UserError(f"device = {device}: use cpu or cuda")
    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"device = {device}: torch sees no CUDA device on this machine; use cpu")


def stages_of(device: str, threads: int, progress: Callable[[int, int], None] | None) -> "Stages":
    """The engine of a device. UserError when there is no such device."""
    _require_numba()
    if device == "cpu":
        from distreid.labels.cpu.stages import CpuStages

        return CpuStages(threads, progress)
    check_device(device)
    from distreid.labels.gpu import DeviceStages

    return DeviceStages(torch.device(device), progress)


def _require_numba() -> None:
    try:
        import numba  # noqa: F401
    except ImportError as error:
        raise UserError("pseudo-labels need the package numba: pip install 'numba>=0.60'") from error


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # a GPU is asked for results long before they are there
    seconds[stage] = time.perf_counter() - begin

"""Features in, pseudo-labels out: the stages in order. The compiled stages are imported on first use, numba with them."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.labels.engines import engine_of, label_device, require_numba, stages_of
from distreid.labels.settings import LabelSettings, check_cameras, check_eps, label_settings
from distreid.labels.weights import MIN_SQUARED_DISTANCE, soft_weights
from distreid.retrieval.blocks import Progress, peak_memory_bytes

if TYPE_CHECKING:  # these bring numba
    from scipy.sparse import csr_matrix

    from distreid.labels.stages import Stages
    from distreid.retrieval.lists import Lists, Search
    from distreid.retrieval.prepare import Prepared

__all__ = ["PseudoLabels", "dbscan", "eps_from_proportion", "jaccard_graph", "label_device", "make_pseudo_labels", "stages_of"]

log = logging.getLogger(__name__)


class LabelMemoryError(UserError):
    """A stage did not get the memory that it needs."""


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Pseudo-labels of one round: plain arrays, so that every process of a node can map one copy.

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


def make_pseudo_labels(
    features_ND: NDArray[np.floating],
    settings: LabelSettings | None = None,
    *,
    camids: NDArray[np.integer] | None = None,
    eps: float | str | None = None,
    previous_labels: NDArray[np.int64] | None = None,
    search: "Search | None" = None,
    device: str | None = None,
    stages: "Stages | None" = None,
    threads: int | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> PseudoLabels:
    """Pseudo-labels of one round (DAAM's Algorithm 1): Jaccard distances → eps → DBSCAN → centres.

    features_ND: float16, float32 or float64 [N, D], any norm; distances are those of the L2-normalised features.
    settings: by default those of the paper. changes: keys of `LabelSettings` that take the place of its own: `k1=20`.
    camids: the cameras, whole numbers [N]; given, distances are camera-aware (CA-Jaccard) by the settings' k1_intra and so on. With
        camera_normalize=true the features are normalised by camera first, and distances are camera-aware only if that is on too.
    eps: in place of what the settings say: a fixed one, in [0, 1), or another of their words, such as "quality".
    previous_labels: int64 [N], the last round's labels of the same points, to report how far the two agree.
    search: an exact search in place of the engine's own (many machines: `distreid.cluster.search`).
    device: in place of the settings' one; "cuda": the heavy stages run on the GPU, with the same labels. stages: an engine in
    place of the one that the device names; its memory is then the caller's to release.
    threads: of the compiled stages, by default as many as torch uses. progress: called with (rows searched, rows).

    Exact and deterministic: neighbours are ordered by float64 distance, ties by index, whatever the device or number of threads.
    Memory grows with N·(k1 + D), never with N². Raises UserError for features or settings that cannot be labelled. A GPU with too
    little memory leaves the labels to the CPU, with a logged line, unless the settings name it.
    """
    camids, previous_labels = changes.pop("camids_N", camids), changes.pop("previous_labels_N", previous_labels)  # 0.1.0's names
    if isinstance(eps, str):
        changes, eps = changes | {"eps": eps}, None
    settings = label_settings(settings, **changes)
    if eps is None and settings.eps == "fixed":
        eps = settings.eps_value
    eps = None if eps is None else check_eps(eps)
    threads = threads or torch.get_num_threads()
    given = features_ND, settings, camids, eps, previous_labels, search, threads
    if stages is not None:
        return _label(stages, *given)
    device = label_device(device or settings.device)
    try:
        with engine_of(settings, device, threads, progress) as engine:
            return _label(engine, *given)
    except LabelMemoryError as error:
        if device == "cpu" or settings.device != "auto":
            raise
        log.warning("%s; this time the CPU makes them, slower and the same", error)
    engine.release()  # the error held arrays until here
    with engine_of(replace(settings, dbscan="auto"), "cpu", threads, progress) as engine:
        return _label(engine, *given)


def _label(
    stages: "Stages",
    features_ND: NDArray[np.floating],
    settings: LabelSettings,
    camids: NDArray[np.integer] | None,
    eps: float | None,
    previous_labels: NDArray[np.int64] | None,
    search: "Search | None",
    threads: int,
) -> PseudoLabels:
    from distreid.labels import quality
    from distreid.labels.choice import best_eps, pairs_tried
    from distreid.labels.stages import eps_of, nearest_pairs, pairs_asked
    from distreid.retrieval.approximate import ApproximateSearch
    from distreid.retrieval.jaccard import zero_pairs
    from distreid.retrieval.prepare import prepare

    stats: dict[str, float] = {}
    with _timed(stats, "check"):
        prepared = checked(features_ND, settings, camids, threads)
        count, sizes_U = len(prepared.group_N), prepared.sizes
        by_quality = settings.eps == "quality"
        asked = 0 if eps is not None else pairs_tried(count)[-1] if by_quality else pairs_asked(settings.p, count)
        if previous_labels is not None and len(previous_labels) != count:
            raise UserError(f"{len(previous_labels)} previous labels for {count} features: give those of the same points or none")
    with _timed(stats, "neighbours"):
        approximate = None if settings.neighbours == "exact" else ApproximateSearch(settings.neighbours, threads, stages.device)
        lists = lists_of(prepared, settings, camids, approximate or search or stages.search)
    with _timed(stats, "reciprocal"):
        v = stages.reciprocal(prepared, lists)
    with _timed(stats, "expansion"):
        weights = stages.expand(v, prepared, lists)
        del v
    with _timed(stats, "jaccard"):
        near = nearest_pairs(stages, weights, sizes_U, asked) if eps is None else stages.pairs_within(weights, eps)
    with _timed(stats, "eps"):
        if eps is None:
            min_samples = settings.min_samples
            eps = best_eps(stages, weights, near, sizes_U, min_samples) if by_quality else eps_of(stages, near, sizes_U, asked)
    with _timed(stats, "dbscan"):
        labels_U = stages.dbscan(near, sizes_U, eps, settings.min_samples)
        labels_N = labels_U[prepared.group_N]
    normalized = settings.features == "l2"
    with _timed(stats, "centers"):
        # Of the features as the network gives them: what the losses compare with them is not normalised by camera.
        given = prepare(features_ND, 1, threads) if settings.camera_normalize else prepared
        centers_KD = stages.centers(given, labels_N, normalized)
    with _timed(stats, "quality"):
        figures = quality.sizes(labels_N) | {"silhouette": quality.silhouette(stages, weights, labels_U, sizes_U)}
        if previous_labels is not None:
            figures |= quality.agreement(labels_N, np.asarray(previous_labels))
    stats |= {"seconds": sum(stats.values()), "distinct_features": float(len(sizes_U))}
    stats |= {"pairs": float(near.total + zero_pairs(sizes_U)), "pairs_held": float(near.held)}
    if approximate is not None:
        stats["recall"] = approximate.recall
    stats |= {"peak_process_bytes": float(peak_memory_bytes())}
    if peaks := stages.peaks():
        stats |= {"peak_device_bytes": float(sum(peaks.values()))}
        stats |= {f"peak_{holder}_bytes": float(held) for holder, held in peaks.items()}
    return PseudoLabels(labels_N, centers_KD, eps, normalized, figures, stats)


def jaccard_graph(
    features_ND: NDArray[np.floating],
    k1: int | None = None,
    k2: int | None = None,
    *,
    settings: LabelSettings | None = None,
    camids: NDArray[np.integer] | None = None,
    device: str | None = None,
    threads: int | None = None,
    **changes: Any,
) -> "csr_matrix":
    """Jaccard distances of all pairs with J < 1: symmetric scipy CSR, float64 [N, N], indices sorted, explicit zeros kept, the
    diagonal stored (as zeros). A pair that is not stored is at distance 1. Arguments: as for `make_pseudo_labels`.
    """
    camids = changes.pop("camids_N", camids)
    changes |= {name: value for name, value in (("k1", k1), ("k2", k2)) if value is not None}
    settings, threads = label_settings(settings, **changes), threads or torch.get_num_threads()
    with engine_of(settings, device, threads) as stages:
        from distreid.retrieval import jaccard

        prepared = checked(features_ND, settings, camids, threads)
        lists = lists_of(prepared, settings, camids, stages.search)
        pairs = stages.pairs_within(stages.expand(stages.reciprocal(prepared, lists), prepared, lists), 1.0)
        jaccard.check_linear(pairs.near, len(prepared.group_N))
        graph = jaccard.symmetric(pairs.graph)
    if len(prepared.first_U) == len(prepared.group_N):
        return graph
    graph = graph[prepared.group_N][:, prepared.group_N]  # each copy as its group; copies of each other are at the diagonal's 0
    graph.sort_indices()
    return graph


def eps_from_proportion(graph: "csr_matrix", p: float, count: int) -> float:
    """Mean of the smallest round(p·N(N−1)/2) pair distances of a `jaccard_graph` of N = `count` points: zeros count, pairs that are
    not stored count as 1."""
    require_numba()
    from distreid.labels.stages import mean_of_smallest, pairs_asked

    rows = np.repeat(np.arange(count, dtype=graph.indices.dtype), np.diff(graph.indptr))
    return mean_of_smallest(graph.data[graph.indices > rows], pairs_asked(p, count), None, 0)


def dbscan(graph: "csr_matrix", eps: float, min_samples: int) -> NDArray[np.int64]:
    """DBSCAN's labels [N] on a symmetric graph of distances (pairs that are not stored are at 1): those of scikit-learn's
    DBSCAN(metric="precomputed") on the dense matrix, border points included."""
    count = graph.shape[0]
    if eps >= 1:
        return np.full(count, 0 if count >= min_samples else -1, np.int64)
    require_numba()
    from distreid.labels.cpu import clustering
    from distreid.retrieval.reciprocal import Csr

    entries = Csr(graph.indptr, graph.indices, graph.data)
    return clustering.dbscan(entries, np.ones(count, np.int64), eps, min_samples)


def lists_of(prepared: "Prepared", settings: LabelSettings, camids: NDArray[np.integer] | None, search: "Search") -> "Lists":
    """The lists of neighbours that the settings ask for, camera-aware where cameras are given."""
    from distreid.retrieval.lists import camera_lists, plain_lists

    if camids is None or not _camera_aware(settings):
        return plain_lists(prepared, settings.k1, settings.k2, search)
    k1, k2 = (settings.k1_intra, settings.k1_inter), (settings.k2_intra, settings.k2_inter)
    return camera_lists(prepared, camids, k1, k2, search)


def checked(
    features_ND: NDArray[np.floating], settings: LabelSettings, camids: NDArray[np.integer] | None, threads: int
) -> "Prepared":
    """The features that are compared, checked, and their copies (within a camera, where distances are camera-aware)."""
    from distreid.retrieval.cameras import normalized_by_camera
    from distreid.retrieval.prepare import prepare, with_norms

    if camids is None:
        if settings.camera_keys:
            raise UserError(f"{settings.camera_keys[0]}=true needs the features' cameras: give camids, or turn it off")
        return prepare(features_ND, settings.k1, threads)
    camids_N, aware = check_cameras(camids, len(features_ND)), _camera_aware(settings)
    if settings.camera_normalize:
        features_ND = normalized_by_camera(*with_norms(features_ND, threads), camids_N)
    return prepare(features_ND, 1, threads, camids_N) if aware else prepare(features_ND, settings.k1, threads)


def _camera_aware(settings: LabelSettings) -> bool:
    """Whether cameras that are given are for camera-aware distances: unless the settings name another use alone."""
    return settings.camera_aware or not settings.camera_normalize


@contextmanager
def _timed(stats: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    try:
        yield
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # a GPU is asked for results long before they are there
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:  # CuPy's and RMM's are MemoryErrors
        raise LabelMemoryError(
            f"too little memory for labels (stage {stage}): free some, or set labels.device to one that has more"
        ) from error
    stats[f"seconds_{stage}"] = time.perf_counter() - begin

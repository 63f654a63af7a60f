"""Many labellings of the same features: the neighbours and the Jaccard graph once, then a (p, min_samples) cell in milliseconds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.errors import UserError
from distreid.labels import clustering, jaccard, quality
from distreid.labels.engine import stages_of
from distreid.labels.lists import camera_lists, plain_lists
from distreid.labels.pairs import Pairs
from distreid.labels.prepare import prepare
from distreid.labels.settings import K1, K2, CameraLists, check_settings
from distreid.labels.truth import oracle


def label_grid(
    features_ND: NDArray[np.floating],
    ps: Sequence[float],
    min_samples: Sequence[int],
    *,
    k1: int = K1,
    k2: int = K2,
    pids_N: NDArray[np.int64] | None = None,
    camids_N: NDArray[np.integer] | None = None,
    cameras: CameraLists | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """One row for each p and min_samples, p first: what `make_pseudo_labels` gives for that cell alone, to the last bit.

    Rows hold `p`, `min_samples`, `eps`, the figures of `quality.sizes`, `silhouette` and `quality` (`quality.overall`), and where
    the true identities pids_N are known those of `truth.oracle`. A p that these features cannot serve gives a row with `reason`.

    Raises UserError for features or settings that cannot be labelled. camids_N, cameras, progress: as for `make_pseudo_labels`.
    """
    for p in ps:
        for least in min_samples:
            check_settings(k1, k2, p, least, None)
    threads = threads or torch.get_num_threads()
    stages = stages_of(device, threads, progress)
    prepared = prepare(features_ND, k1 if camids_N is None else 1, threads, camids_N)
    count, sizes_U = len(prepared.group_N), prepared.sizes
    if pids_N is not None and len(pids_N) != count:
        raise UserError(f"{len(pids_N)} identities for {count} features: give one for each, −1 where it is not known")
    if camids_N is None:
        lists = plain_lists(prepared, k1, k2, stages.search)
    else:
        lists = camera_lists(prepared, camids_N, cameras or CameraLists(), stages.search)
    weights = stages.expand(stages.reciprocal(prepared, lists), prepared, lists)
    near = stages.nearest_pairs(weights, clustering.pairs_asked(max(ps), count))
    known: dict[bytes, dict[str, float]] = {}  # many cells have the same labels
    for p in ps:
        try:
            eps = stages.eps(near, sizes_U, clustering.pairs_asked(p, count))
        except UserError as error:
            yield from ({"p": p, "min_samples": least, "reason": str(error)} for least in min_samples)
            continue
        within = replace(near, graph=_within(near.graph, eps)) if isinstance(near, Pairs) else near
        for least in min_samples:
            labels_U = stages.dbscan(within, sizes_U, eps, least)
            key = labels_U.tobytes()
            if key not in known:
                labels_N = labels_U[prepared.group_N]
                figures = quality.sizes(labels_N) | {"silhouette": stages.silhouette(weights, labels_U)}
                figures["quality"] = quality.overall(figures["silhouette"], figures["outliers"], count)
                known[key] = figures | (oracle(labels_N, pids_N) if pids_N is not None else {})
            yield {"p": p, "min_samples": least, "eps": eps, **known[key]}


def _within(graph: jaccard.Csr, eps: float) -> jaccard.Csr:
    """The pairs that DBSCAN looks at."""
    kept = graph.data <= eps
    starts = np.concatenate([[0], np.cumsum(kept)])
    return jaccard.Csr(starts[graph.indptr], graph.indices[kept], graph.data[kept])

"""Many labellings of the same features: the neighbours and the Jaccard graph once, then a (p, min_samples) cell in milliseconds."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.labels import quality
from distreid.labels.api import checked, lists_of
from distreid.labels.engines import engine_of
from distreid.labels.ground_truth import score_clusters
from distreid.labels.settings import LabelSettings, label_settings
from distreid.labels.stages import eps_of, nearest_pairs, pairs_asked
from distreid.retrieval.blocks import Progress


def label_grid(
    features_ND: NDArray[np.floating],
    ps: Sequence[float],
    min_samples: Sequence[int],
    settings: LabelSettings | None = None,
    *,
    camids: NDArray[np.integer] | None = None,
    pids: NDArray[np.int64] | None = None,
    device: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """One row for each p and min_samples, p first: what `make_pseudo_labels` gives for that cell alone, to the last bit.

    settings: all but p, min_samples and the eps policy, which is always the proportion; neighbours are exact.
    camids, device, threads, progress: as for `make_pseudo_labels`. pids: int64 [N], true identities, −1 where unknown.

    Rows hold `p`, `min_samples`, `eps`, the figures of `quality.sizes`, `silhouette` and `quality` (`quality.overall`), and where
    the true identities are known those of `score_clusters`. A p that these features cannot serve gives a row with `reason`.

    Raises UserError for features or settings that cannot be labelled.
    """
    settings = settings or LabelSettings()
    for p in ps:
        for least in min_samples:
            label_settings(settings, p=p, min_samples=least)
    threads = threads or torch.get_num_threads()
    with engine_of(settings, device, threads, progress) as stages:
        prepared = checked(features_ND, settings, camids, threads)
        count, sizes_U = len(prepared.group_N), prepared.sizes
        if pids is not None and len(pids) != count:
            raise UserError(f"{len(pids)} identities for {count} features: give one for each, −1 where it is not known")
        lists = lists_of(prepared, settings, camids, stages.search)
        weights = stages.expand(stages.reciprocal(prepared, lists), prepared, lists)
        near = nearest_pairs(stages, weights, sizes_U, pairs_asked(max(ps), count))
        known: dict[bytes, dict[str, float]] = {}  # many cells have the same labels
        for p in ps:
            try:
                eps = eps_of(stages, near, sizes_U, pairs_asked(p, count))
            except UserError as error:
                yield from ({"p": p, "min_samples": least, "reason": str(error)} for least in min_samples)
                continue
            within = near.within(eps)
            for least in min_samples:
                labels_U = stages.dbscan(within, sizes_U, eps, least)
                key = labels_U.tobytes()
                if key not in known:
                    labels_N = labels_U[prepared.group_N]
                    figures = quality.sizes(labels_N) | {"silhouette": quality.silhouette(stages, weights, labels_U, sizes_U)}
                    figures["quality"] = quality.overall(figures["silhouette"], figures["outliers"], count)
                    known[key] = figures | (score_clusters(labels_N, pids) if pids is not None else {})
                yield {"p": p, "min_samples": least, "eps": eps, **known[key]}

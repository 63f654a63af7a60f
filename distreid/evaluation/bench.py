"""How long ranking takes on this machine."""

import resource
import sys
import time
from typing import Any

import numpy as np

from distreid.evaluation.features import Features
from distreid.evaluation.hits import Progress, rank

_ROWS = 4096


def bench_score(
    queries: int = 3368,
    gallery: int = 19732,
    dim: int = 2048,
    seed: int = 0,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ranks drawn features of the given size once, after a small run that compiles the loops.

    Returns the sizes; `check_seconds`, validating both sides; `rank_seconds`, from validated features to metrics;
    `peak_bytes`, the highest resident memory of this process so far, the drawn features included; mAP and rank1.
    """
    small = Features(*draw_side(64, dim, seed, 0))
    rank(small, small, device=device)
    query_arrays, gallery_arrays = draw_side(queries, dim, seed, 1), draw_side(gallery, dim, seed, 2)
    started = time.perf_counter()
    query_side, gallery_side = Features(*query_arrays), Features(*gallery_arrays)
    checked = time.perf_counter()
    metrics = rank(query_side, gallery_side, device=device, progress=progress)
    ranked = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "queries": queries,
        "gallery": gallery,
        "dim": dim,
        "device": device,
        "check_seconds": checked - started,
        "rank_seconds": ranked - checked,
        "peak_bytes": peak if sys.platform == "darwin" else peak * 1024,
        "mAP": metrics.mAP,
        "rank1": metrics.rank1,
    }


def draw_side(images: int, dim: int, seed: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of identities 0 (distractors) to 750 over six cameras: a centre each, and as much noise again thrice."""
    centres_KD = np.random.default_rng(seed).standard_normal((751, dim), dtype=np.float32)
    rng = np.random.default_rng([seed, side])
    pids, camids = rng.integers(0, 751, images), rng.integers(1, 7, images)
    features_ND = np.empty((images, dim), np.float32)
    for start in range(0, images, _ROWS):  # in parts: a second copy of a large gallery would count as peak memory
        rows_BD = features_ND[start : start + _ROWS]
        rng.standard_normal(out=rows_BD, dtype=np.float32)
        rows_BD *= 3
        rows_BD += centres_KD[pids[start : start + _ROWS]]
    return features_ND, pids, camids

"""What a round costs outside training, extraction and evaluation: features to the labelling actor, labels back, on a real Ray."""

from __future__ import annotations

import time
from typing import Any

import ray

from distreid.cluster.labelling import LabellingActor, RemoteLabeler
from distreid.cluster.train import start_ray
from distreid.data.sampling import shard
from distreid.labels import LabelSettings
from distreid.labels.bench import IMAGES_PER_IDENTITY, clustered_features
from distreid.retrieval.blocks import peak_memory_bytes

TRAINING = 600.0  # seconds of a round's training that the share is given for


@ray.remote(num_cpus=0)
class _Worker:
    """Stands in for a training worker: holds a shard of drawn features."""

    def __init__(self, actor: Any, rank: int, world: int, n: int, dim: int) -> None:
        part = shard(n, rank, world)
        self._shard_nD = clustered_features(n, dim, 0)[part.start : part.stop].copy()
        self._labeler = RemoteLabeler(actor, rank, world, "bench")

    def ready(self) -> None:
        """Returns once the features are drawn."""

    def hand_in(self) -> tuple[float, float, int, int]:
        """Seconds until the labels were here, seconds of labelling, clusters, peak memory of this process in bytes."""
        began = time.perf_counter()
        labels = self._labeler.label("round", self._shard_nD, None)
        took = time.perf_counter() - began
        return took, float(labels.figures["stats"]["seconds"]), len(labels.pseudo.centers), peak_memory_bytes()


def bench_round(n: int, dim: int, workers: int = 2) -> dict[str, Any]:
    """Hands n drawn features in from ``workers`` processes and waits for their labels, as a round does.

    Returns the sizes; `seconds`, from handing in to the labels in the last worker; `labelling_seconds`, the part that the engine
    took; `moving_seconds`, the rest; `share`, of a round whose training takes 10 minutes; `worker_peak_bytes`, the
    peak memory of a worker (which draws its features itself).
    """
    start_ray(workers)
    actor = LabellingActor.remote(LabelSettings(), None, 0.0, "bench")
    team = [_Worker.remote(actor, rank, workers, n, dim) for rank in range(workers)]
    ray.get([worker.ready.remote() for worker in team])
    found = ray.get([worker.hand_in.remote() for worker in team])
    ray.shutdown()
    seconds, labelling = max(took for took, *_ in found), found[0][1]
    return {
        "n": n,
        "dim": dim,
        "workers": workers,
        "clusters": found[0][2],
        "images_per_identity": IMAGES_PER_IDENTITY,
        "seconds": seconds,
        "labelling_seconds": labelling,
        "moving_seconds": seconds - labelling,
        "share_of_round": seconds / (TRAINING + seconds),
        "worker_peak_bytes": max(peak for *_, peak in found),
        "features_bytes": 4 * n * dim,
    }

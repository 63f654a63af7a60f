"""Live figures for Prometheus, through Ray's own exporter: each node's agent serves what its workers and actors record.

Every name below appears there with Ray's prefix ``ray_`` (a counter also with ``_total``, a histogram with ``_bucket``, ``_sum``,
``_count``). `dashboards/` shows them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.metrics import Counter, Gauge, Histogram

from distreid.errors import UserError
from distreid.files import atomic_write
from distreid.methods.protocols import RoundLabels

STEP_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]


class WorkerMetrics:
    """What one worker records; ``run`` and ``rank`` tell its series apart."""

    def __init__(self, run: str, rank: int) -> None:
        own = {"run": run, "rank": str(rank)}

        def gauge(name: str, text: str, *tags: str) -> Any:
            return Gauge(f"distreid_{name}", text, ("run", "rank", *tags)).set_default_tags(own)

        self._speed = gauge("images_per_second", "Training images a second of this worker, mean of the epoch so far")
        self._loss = gauge("loss", "A term of the loss: mean over the workers and the epoch so far", "term")
        self._not_finite = gauge("loss_not_finite", "1 when the last loss was NaN or infinite, else 0")
        self._stage_seconds = gauge("stage_seconds", "How long the stage took when it was last finished", "stage")
        self._memory = gauge("gpu_memory_bytes", "Peak of the memory that tensors took on this worker's GPU; 0 without one")
        self._progress = Counter("distreid_progress", "Steps, stages and notes so far", ("run", "rank")).set_default_tags(own)
        self._step_seconds = Histogram(
            "distreid_step_seconds", "Seconds of a training step, or of a batch of features", STEP_SECONDS, ("run", "rank", "stage")
        ).set_default_tags(own)
        self._stage, self._stage_began, self._last = "", 0.0, 0.0

    def stage(self, title: str) -> None:
        now = time.perf_counter()
        if self._stage:
            self._stage_seconds.set(now - self._stage_began, {"stage": self._stage})
        # Without the number of the round: a label with ever new values would make ever new series.
        self._stage, self._stage_began, self._last = title.split(",")[0], now, now
        self._progress.inc()

    def advance(self) -> None:
        now = time.perf_counter()
        self._step_seconds.observe(now - self._last, {"stage": self._stage})
        self._last = now
        self._progress.inc()

    def measure(self, losses: dict[str, float], images_per_second: float) -> None:
        self._speed.set(images_per_second)
        for term, value in losses.items():
            self._loss.set(value, {"term": term})
        self._not_finite.set(float(not all(map(math.isfinite, losses.values()))))
        self._memory.set(torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)


class DeskMetrics:
    """What the labelling actor records."""

    def __init__(self, run: str) -> None:
        def gauge(name: str, text: str, *tags: str) -> Any:
            return Gauge(f"distreid_{name}", text, ("run", *tags)).set_default_tags({"run": run})

        self._clusters = gauge("clusters", "Clusters of the last labelling")
        self._outliers = gauge("outliers", "Target images outside every cluster")
        self._images = gauge("target_images", "Target images that were labelled")
        self._eps = gauge("eps", "DBSCAN's eps of the last labelling")
        self._seconds = gauge("desk_seconds", "How long the actor took for the last labelling or scoring", "work")
        self._map = gauge("map", "mAP on a test set, 0 to 1", "test")
        self._rank1 = gauge("rank1", "Rank-1 on a test set, 0 to 1", "test")

    def labelled(self, labels: RoundLabels, seconds: float) -> None:
        pseudo = labels.pseudo
        self._clusters.set(len(pseudo.centers))
        self._outliers.set(int((pseudo.labels < 0).sum()))
        self._images.set(len(pseudo.labels))
        self._eps.set(pseudo.eps)
        self._seconds.set(seconds, {"work": "label"})

    def scored(self, test: str, metrics: dict[str, float], seconds: float) -> None:
        self._map.set(metrics["mAP"], {"test": test})
        self._rank1.set(metrics["rank1"], {"test": test})
        self._seconds.set(seconds, {"work": "score"})


@contextmanager
def advertised(run: Path) -> Iterator[None]:
    """While the block runs, a file in Ray's folder tells Prometheus where this Ray's nodes export (``file_sd_configs``).

    For a run's own Ray. A cluster's head node writes such a file itself, to the same folder.
    """
    number = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:8]
    file = ray_folder() / f"prom_metrics_{run.name}_{number}.json"  # a resumed run replaces what it left when it was killed
    targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in ray.nodes() if node["Alive"]]
    with suppress(UserError), atomic_write(file) as stream:  # a run does not end because nobody can watch it
        stream.write(json.dumps([{"labels": {"job": "ray"}, "targets": targets}]).encode())
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def ray_folder() -> Path:
    """Where Ray keeps its sessions on this machine."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"

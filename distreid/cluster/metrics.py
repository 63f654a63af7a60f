"""Live figures for Prometheus, through Ray's own exporter: each node's agent serves what its workers and actors record.

Every name below appears there with Ray's prefix ``ray_`` (a counter also with ``_total``, a histogram with ``_bucket``, ``_sum``,
``_count``). `dashboards/` shows them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import string
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from distreid.common.errors import UserError
from distreid.common.files import atomic_write

if TYPE_CHECKING:  # it brings torch
    from distreid.training.protocols import RoundLabels

STEP_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]
REPEAT = 1.0  # seconds; Ray exports at most once a second


def in_ascii(name: str) -> str:
    """A run's name as the value of a label, for which Ray takes ASCII only: ``ünï`` is shown as ``%C3%BCn%C3%AF``."""
    return quote(name, safe=string.printable)


class Gauges:
    """Gauges of one process that stay until they change.

    Ray passes a gauge's value on once and lets it vanish two export intervals later, so a thread sets the last values again.

    Args:
        own: labels of every series.
        texts: name of each gauge, without ``distreid_``, to its description and its further labels.
    """

    def __init__(self, own: dict[str, str], texts: dict[str, tuple[str, ...]]) -> None:
        self._gauges = {
            name: Gauge(f"distreid_{name}", text, (*own, *labels)).set_default_tags(own) for name, (text, *labels) in texts.items()
        }
        self._last: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        threading.Thread(target=self._repeat, daemon=True).start()

    def set(self, name: str, value: float, **labels: str) -> None:
        self._last[name, tuple(labels.items())] = value
        self._gauges[name].set(value, labels)

    def _repeat(self) -> None:
        while True:
            time.sleep(REPEAT)
            for (name, labels), value in self._last.copy().items():
                self._gauges[name].set(value, dict(labels))


class WorkerMetrics:
    """What one worker records; ``run`` and ``rank`` tell its series apart."""

    def __init__(self, run: str, rank: int) -> None:
        own = {"run": in_ascii(run), "rank": str(rank)}
        self._gauges = Gauges(
            own,
            {
                "images_per_second": ("Training images a second of this worker, mean of the epoch so far",),
                "loss": ("A term of the loss: mean over the workers and the epoch so far", "term"),
                "loss_not_finite": ("1 when the last loss was NaN or infinite, else 0",),
                "stage_seconds": ("How long the stage took when it was last finished", "stage"),
                "gpu_memory_bytes": ("Peak of the memory that tensors took on this worker's GPU; 0 without one",),
            },
        )
        self._progress = Counter("distreid_progress", "Steps, batches and stages so far", ("run", "rank")).set_default_tags(own)
        self._step_seconds = Histogram(
            "distreid_step_seconds", "Seconds of a training step, or of a batch of features", STEP_SECONDS, ("run", "rank", "stage")
        ).set_default_tags(own)
        self._stage, self._stage_began, self._last = "", 0.0, 0.0

    def stage(self, title: str) -> None:
        now = time.perf_counter()
        if self._stage:
            self._gauges.set("stage_seconds", now - self._stage_began, stage=self._stage)
        # Without the number of the round: a label with ever new values would make ever new series.
        self._stage, self._stage_began, self._last = title.split(",")[0], now, now
        self._progress.inc()

    def advance(self) -> None:
        now = time.perf_counter()
        self._step_seconds.observe(now - self._last, {"stage": self._stage})
        self._last = now
        self._progress.inc()

    def measure(self, losses: dict[str, float], images_per_second: float) -> None:
        self._gauges.set("images_per_second", images_per_second)
        for term, value in losses.items():
            self._gauges.set("loss", value, term=term)
        self._gauges.set("loss_not_finite", float(not all(map(math.isfinite, losses.values()))))
        import torch  # seconds for the monitor's process, which imports this module and trains nothing

        self._gauges.set("gpu_memory_bytes", torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)


class ActorMetrics:
    """What the labelling actor records."""

    def __init__(self, run: str) -> None:
        self._gauges = Gauges(
            {"run": in_ascii(run)},
            {
                "clusters": ("Clusters of the last labelling",),
                "outliers": ("Target images outside every cluster",),
                "target_images": ("Target images that were labelled",),
                "eps": ("DBSCAN's eps of the last labelling",),
                "actor_seconds": ("How long the actor took for the last labelling or scoring", "work"),
                "map": ("mAP on a test set, 0 to 1", "test"),
                "rank1": ("Rank-1 on a test set, 0 to 1", "test"),
            },
        )

    def labelled(self, labels: RoundLabels, seconds: float) -> None:
        pseudo = labels.pseudo
        self._gauges.set("clusters", len(pseudo.centers))
        self._gauges.set("outliers", int((pseudo.labels < 0).sum()))
        self._gauges.set("target_images", len(pseudo.labels))
        self._gauges.set("eps", pseudo.eps)
        self._gauges.set("actor_seconds", seconds, work="label")

    def scored(self, test: str, metrics: dict[str, float], seconds: float) -> None:
        self._gauges.set("map", metrics["mAP"], test=test)
        self._gauges.set("rank1", metrics["rank1"], test=test)
        self._gauges.set("actor_seconds", seconds, work="score")


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

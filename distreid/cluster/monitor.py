"""How the driver learns what the workers are doing, on any cluster and without a shared file system."""

from __future__ import annotations

import threading
import time
from typing import Any

import ray

from distreid.cluster.metrics import WorkerMetrics
from distreid.methods.protocols import Reporter

INTERVAL = 0.3  # seconds between looks; a worker sends no more often than that


@ray.remote(num_cpus=0, max_restarts=-1)
class MonitorActor:
    """Holds the events that the leading worker sent and the driver has not seen, and the user's error that ends the run."""

    def __init__(self) -> None:
        self._events: list[tuple[str, tuple[Any, ...]]] = []
        self._fatal: str | None = None

    def send(self, name: str, *arguments: Any) -> None:
        self._events.append((name, arguments))

    def read(self) -> list[tuple[str, tuple[Any, ...]]]:
        events, self._events = self._events, []
        return events

    def fail(self, message: str) -> None:
        self._fatal = self._fatal or message

    def fatal(self) -> str | None:
        return self._fatal


class RemoteReporter:
    """Implements Reporter in a worker. Each records live metrics; only the leading one tells the driver."""

    def __init__(self, monitor: Any, leads: bool, metrics: WorkerMetrics) -> None:
        self._monitor, self._leads, self._metrics, self._sent = monitor, leads, metrics, 0.0

    def stage(self, title: str, total: int, done: int = 0) -> None:
        self._metrics.stage(title)
        self._send("stage", title, total, done)

    def advance(self, done: int, figures: dict[str, float]) -> None:
        self._metrics.advance()
        if time.monotonic() - self._sent > INTERVAL:
            self._sent = time.monotonic()
            self._send("advance", done, figures)

    def measure(self, losses: dict[str, float], images_per_second: float) -> None:
        self._metrics.measure(losses, images_per_second)

    def note(self, text: str) -> None:
        self._send("note", text)

    def _send(self, name: str, *arguments: Any) -> None:
        if self._leads:
            self._monitor.send.remote(name, *arguments)


class Watch:
    """While the block runs, a thread shows what the workers report."""

    def __init__(self, monitor: Any, reporter: Reporter) -> None:
        self._monitor, self._reporter, self._stop = monitor, reporter, threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _loop(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(INTERVAL)  # one last look after the end
            try:
                events = ray.get(self._monitor.read.remote(), timeout=5)
            except Exception:  # the cluster is going down; the driver reports that itself
                continue
            for name, arguments in events:
                getattr(self._reporter, name)(*arguments)

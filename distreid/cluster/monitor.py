"""How the driver learns what the workers are doing, on any cluster and without a shared file system."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

if TYPE_CHECKING:  # these bring torch, which the monitor's own process can do without
    from distreid.cluster.metrics import WorkerMetrics
    from distreid.training.protocols import Reporter

INTERVAL = 0.3  # seconds between looks; a worker sends no more often than that
HEARTBEAT = 1.0  # seconds


@dataclass(frozen=True)
class Pulse:
    """How far a worker is.

    Attributes:
        attempt: which start of the workers it belongs to.
        steps: training steps, batches of features and stages so far; the same in every worker that is at the same place.
        waits: for what takes its time: labels, or the end of an evaluation.
    """

    attempt: str
    rank: int
    steps: int
    stage: str
    waits: bool
    node: str
    pid: int


@dataclass
class _Seen:
    pulse: Pulse
    moved: float = field(default_factory=time.monotonic)
    alive: float = field(default_factory=time.monotonic)


@ray.remote(num_cpus=0, max_restarts=-1)
class MonitorActor:
    """Holds the events that the leading worker sent and the driver has not seen, the user's error that ends the run, and how far
    each worker is."""

    def __init__(self) -> None:
        self._workers: dict[int, _Seen] = {}
        self._events: list[tuple[str, tuple[Any, ...]]] = []
        self._fatal: str | None = None
        self._stopping = False

    def send(self, name: str, *arguments: Any) -> None:
        self._events.append((name, arguments))

    def read(self) -> list[tuple[str, tuple[Any, ...]]]:
        events, self._events = self._events, []
        return events

    def fail(self, message: str) -> None:
        self._fatal = self._fatal or message

    def fatal(self) -> str | None:
        return self._fatal

    def stop(self) -> None:
        self._stopping = True

    def beat(self, pulse: Pulse) -> bool:
        """Returns whether the workers are to stop."""
        if any(seen.pulse.attempt != pulse.attempt for seen in self._workers.values()):
            self._workers.clear()
        seen = self._workers.setdefault(pulse.rank, _Seen(pulse))
        seen.alive = time.monotonic()
        if seen.pulse.steps != pulse.steps:
            seen.moved = seen.alive
        seen.pulse = pulse
        return self._stopping

    def hung(self, limit: float) -> list[Pulse]:
        """The workers that hold up all others, when nobody has moved for ``limit`` seconds; they are named once.

        A frozen process sends no pulse; else it is who has made the fewest steps, for the others wait for it in a collective.
        """
        workers, now = list(self._workers.values()), time.monotonic()
        if not workers or any(now - seen.moved < limit for seen in workers):
            return []
        frozen = [seen.pulse for seen in workers if now - seen.alive > min(limit, 10 * HEARTBEAT)]
        least = min(seen.pulse.steps for seen in workers)
        behind = [seen.pulse for seen in workers if seen.pulse.steps == least and not seen.pulse.waits]
        if frozen or behind:
            self._workers.clear()
        return frozen or behind


class RemoteReporter:
    """Implements Reporter in a worker. Each records live metrics and sends a pulse; only the leading one tells the driver.

    Args:
        attempt: names this start of the workers.
    """

    def __init__(self, monitor: Any, rank: int, attempt: str, metrics: WorkerMetrics) -> None:
        self._monitor, self._rank, self._attempt, self._metrics, self._sent = monitor, rank, attempt, metrics, 0.0
        self._steps, self._stage, self._total, self._done, self._stopping = 0, "", 0, 0, False
        threading.Thread(target=self._beat, daemon=True).start()

    def stage(self, title: str, total: int, done: int = 0) -> None:
        self._steps, self._stage, self._total, self._done = self._steps + 1, title, total, done
        self._metrics.stage(title)
        self._send("stage", title, total, done)

    def advance(self, done: int, figures: dict[str, float]) -> None:
        self._steps, self._done = self._steps + 1, done
        self._metrics.advance()
        if time.monotonic() - self._sent > INTERVAL:
            self._sent = time.monotonic()
            self._send("advance", done, figures)

    def measure(self, losses: dict[str, float], images_per_second: float) -> None:
        self._metrics.measure(losses, images_per_second)

    def note(self, text: str) -> None:
        self._send("note", text)

    def stopping(self) -> bool:
        return self._stopping

    def leaving(self) -> bool:
        import ray.train  # a second for the monitor's own process, which has no use for it

        return ray.train.get_preemption_info() is not None

    def _send(self, name: str, *arguments: Any) -> None:
        if self._rank == 0:
            self._monitor.send.remote(name, *arguments)

    def _beat(self) -> None:
        node, pid = ray.get_runtime_context().get_node_id(), os.getpid()
        while True:
            waits = self._done >= self._total
            with suppress(Exception):  # the monitor is being restarted
                pulse = Pulse(self._attempt, self._rank, self._steps, self._stage, waits, node, pid)
                self._stopping = ray.get(self._monitor.beat.remote(pulse), timeout=10 * HEARTBEAT)
            time.sleep(HEARTBEAT)


class Watch:
    """While the block runs, a thread shows what the workers report, and names and kills those that hang: Ray then restarts all.

    Args:
        limit: seconds without any step; 0 kills nobody.
    """

    def __init__(self, monitor: Any, reporter: Reporter, limit: float) -> None:
        self._monitor, self._reporter, self._limit, self._stop = monitor, reporter, limit, threading.Event()
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
                if self._reporter.stopping():
                    self._monitor.stop.remote()
                events = ray.get(self._monitor.read.remote(), timeout=5)
                hung = ray.get(self._monitor.hung.remote(self._limit), timeout=5) if self._limit and not ended else []
            except Exception:  # the cluster is going down; the driver reports that itself
                continue
            for name, arguments in events:
                getattr(self._reporter, name)(*arguments)
            for pulse in hung:
                self._reporter.note(
                    f"worker {pulse.rank} hangs (process {pulse.pid} on node {pulse.node[:8]}): no step for {self._limit:g} s "
                    f"in {pulse.stage}; it is killed and all workers restart"
                )
                there = NodeAffinitySchedulingStrategy(pulse.node, soft=False)
                _kill.options(scheduling_strategy=there).remote(pulse.pid)


@ray.remote(num_cpus=0, max_retries=0)
def _kill(pid: int) -> None:
    with suppress(OSError):  # it has ended by itself
        if "RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_text():  # and not another that was given its number
            os.kill(pid, signal.SIGKILL)

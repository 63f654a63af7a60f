"""Time and memory of a command's stages, seen from outside: its processes by /proc, its stage by the run's progress.json."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

EVERY = 0.5  # seconds between two looks; progress.json is written at most once a second
ROLES = ("driver", "worker", "labelling actor", "other")
# What stands in a process's command line, in this order; the first process is the driver, others are "other".
NAMES = {"RayTrainWorker": "worker", "LabellingActor": "labelling actor", "multiprocessing": "worker"}


@dataclass
class Stage:
    """Seconds of a stage, by the clock and of all processes' CPU time; in bytes, the largest resident size of a process of each
    role, and of all together."""

    title: str
    seconds: float = 0.0
    cpu: float = 0.0
    peak: dict[str, int] = field(default_factory=dict)
    together: int = 0


@dataclass(frozen=True)
class Taken:
    """By one process: seconds of CPU time; in bytes, the most memory that it ever held, what it holds, and how much of that can be
    shared."""

    cpu: float
    most: int
    now: int
    private: int
    shared: int


class Watched:
    """A command's processes, looked at again and again.

    Args:
        pid: of the first process.
        progress: the file that says its stage; None: it has one, ``first``.
        first: title of what comes before a run says any.
    """

    def __init__(self, pid: int, progress: Path | None, *, first: str) -> None:
        self._pid, self._progress, self._title = pid, progress, "start" if progress else first
        self._stages: dict[str, Stage] = {}
        self._most: dict[int, int] = {}  # of each process, when it was last looked at
        self._cpu: dict[int, float] = {}
        self._since = time.monotonic()

    def wait(self) -> None:
        time.sleep(EVERY)

    def look(self) -> None:
        """Count the time since the last look, and the processes' memory, for the stage that the run is in now."""
        stage, now = self._stage(), time.monotonic()
        stage.seconds, self._since = stage.seconds + now - self._since, now
        private, shared = 0, 0
        for pid, role in processes(self._pid).items():
            taken = taken_by(pid)
            if taken is None:
                continue
            # A peak between two looks shows in the process's own maximum, as long as that is new.
            peak = taken.most if taken.most > self._most.get(pid, 0) else taken.now
            self._most[pid] = taken.most
            stage.peak[role] = max(stage.peak.get(role, 0), peak)
            stage.cpu += taken.cpu - self._cpu.get(pid, 0.0)
            self._cpu[pid] = taken.cpu
            private, shared = private + taken.private, max(shared, taken.shared)
        stage.together = max(stage.together, private + shared)

    def end(self) -> list[Stage]:
        """All stages, in the order in which they began."""
        stage = self._stages.setdefault(self._title, Stage(self._title))
        stage.seconds += time.monotonic() - self._since
        return list(self._stages.values())

    def _stage(self) -> Stage:
        if self._progress is not None:
            with suppress(OSError, ValueError):
                word = json.loads(self._progress.read_text(encoding="utf-8"))
                if word["state"] == "finished":
                    self._title = "report"
                elif word["stage"]:  # between two stages is the end of the first
                    self._title = word["stage"]["title"]
        return self._stages.setdefault(self._title, Stage(self._title))


def processes(first: int) -> dict[int, str]:
    """A process and all that descend from it, with what each does."""
    parents = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    found, more = {first: "driver"}, [first]
    while more:
        more = [pid for pid, parent in parents.items() if parent in more]
        found |= {pid: _role(pid) for pid in more}
    return found


def _role(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return "other"
    return next((role for name, role in NAMES.items() if name in words), "other")


def taken_by(pid: int) -> Taken | None:
    """None: the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return None
    values = {
        name: 1024 * int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines) if value.endswith(" kB")
    }
    if "VmRSS" not in values:  # a zombie
        return None
    private = values.get("RssAnon", 0)
    cpu = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return Taken(cpu, values["VmHWM"], values["VmRSS"], private, values["VmRSS"] - private)

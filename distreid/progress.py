"""Where a run stands, for other shells and other machines: progress.json in the run directory."""

from __future__ import annotations

import json
import os
import platform
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from distreid.errors import Stopped, UserError
from distreid.files import atomic_write
from distreid.terminal import TerminalReporter

FILE = "progress.json"
EVERY = 1.0  # seconds between writes at least
HEARTBEAT = 15.0  # seconds between writes at most
SILENCE = 120.0  # seconds without a heartbeat after which a run on another machine is taken for dead


class Progress:
    """Implements :class:`distreid.methods.protocols.Reporter`: shows each call on a terminal and keeps progress.json.

    A context manager: a thread writes while the block runs; how the block ends is what the file says in the end. The first SIGTERM
    is a notice (:meth:`stopping`), the second one ends the process.
    """

    def __init__(self, run: Path, shown: TerminalReporter) -> None:
        self._file, self._shown = run / FILE, shown
        self._lock, self._stop, self._news = threading.Lock(), threading.Event(), True
        self._noticed = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._state: dict[str, Any] = {
            "state": "running",
            "host": platform.node(),
            "pid": os.getpid(),
            "born": _born(os.getpid()),
            "started": time.time(),
            "stage": None,
            "figures": {},
        }

    def stage(self, title: str, total: int, done: int = 0) -> None:
        with self._lock:
            self._shown.stage(title, total, done)
        self._set(stage={"title": title, "total": total, "first": done, "done": done, "started": time.time()}, figures={})

    def advance(self, done: int, figures: dict[str, float]) -> None:
        with self._lock:
            self._shown.advance(done, figures)
        stage = self._state["stage"]
        if stage is not None:
            self._set(stage={**stage, "done": done}, figures=figures)

    def note(self, text: str) -> None:
        with self._lock:
            self._shown.note(text)
        self._set(stage=None, figures={})

    def measure(self, losses: dict[str, float], images_per_second: float) -> None:
        """For dashboards; a terminal shows the sum of the losses, which comes with :meth:`advance`."""

    def stopping(self) -> bool:
        return self._noticed.is_set()

    def leaving(self) -> bool:
        return False

    def heed_notice(self) -> None:
        """Take SIGTERM as notice; again after whoever takes the signal over, as ray.init does."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._notice)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self._noticed.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def __enter__(self) -> Progress:
        self.heed_notice()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._shown.close()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if kind is None:
            self._set(state="finished", stage=None)
        elif kind in (KeyboardInterrupt, Stopped):
            self._set(state="interrupted")
        else:
            self._set(state="failed", error=str(error) if isinstance(error, UserError) else f"{kind.__name__}: {error}")
        self._write()

    def _set(self, **values: Any) -> None:
        with self._lock:
            self._state |= values
            self._news = True

    def _loop(self) -> None:
        written = 0.0
        while not self._stop.is_set():
            if self._news or time.monotonic() - written > HEARTBEAT:
                self._write()
                written = time.monotonic()
            self._stop.wait(EVERY)

    def _write(self) -> None:
        with self._lock:
            text, self._news = json.dumps({**self._state, "updated": time.time()}), False
        try:
            with atomic_write(self._file) as file:
                file.write(text.encode())
        except UserError:
            pass  # a full disk ends the run where it matters, at the next checkpoint


def read_progress(run: Path) -> dict[str, Any] | None:
    """What a run last wrote about itself; None where there is nothing (to be) read."""
    try:
        state = json.loads((run / FILE).read_text(encoding="utf-8"))
        return state if {"state", "host", "pid", "born", "started", "stage", "figures", "updated"} <= state.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def alive(state: dict[str, Any]) -> bool:
    """Whether the process that wrote ``state`` still runs: looked up here, judged by its heartbeat on another machine."""
    if state["state"] != "running":
        return False
    if state["host"] != platform.node():
        return time.time() - state["updated"] < SILENCE
    return _born(state["pid"]) == state["born"] if state["born"] is not None else _exists(state["pid"])


def _born(pid: int) -> str | None:
    """When a process started, in the kernel's own count, so that another one with its number is told apart; None if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

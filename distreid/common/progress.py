"""Where a run stands, for other shells and other machines: progress.json in the run directory."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from distreid.common.claim import Claim, TakenOver, Word, read_word, this_process
from distreid.common.errors import Stopped, UserError
from distreid.common.terminal import TerminalReporter

EVERY = 1.0  # seconds between two looks at the terminal's clock


log = logging.getLogger(__name__)


class Progress:
    """Implements :class:`distreid.training.protocols.Reporter`: shows each call on a terminal and keeps progress.json.

    A context manager: threads write while the block runs; how the block ends is what the file says in the end. The first SIGTERM
    is a notice (:meth:`stopping`), the second one ends the process. A run that another process has taken over is stopped likewise.

    Args:
        claim: taken by the caller.
    """

    def __init__(self, claim: Claim, shown: TerminalReporter) -> None:
        self._claim, self._shown = claim, shown
        self._lock, self._stop, self._news = threading.Lock(), threading.Event(), True
        self._noticed = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._state: Word = {"state": "running", **this_process(), "started": time.time(), "stage": None, "figures": {}}

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

    def _beat(self) -> None:
        """In a thread of its own, since a storage may take its time."""
        written = float("-inf")
        while not self._stop.is_set():
            with self._lock:
                self._shown.tick()
            if self._news or time.monotonic() - written >= self._claim.heartbeat:
                written = time.monotonic()
                self._write()
            self._stop.wait(self._claim.cadence)

    def _write(self) -> None:
        with self._lock:
            word, self._news = {**self._state, "updated": time.time()}, False
        try:
            self._claim.say(word)
        except TakenOver as error:
            if not self._noticed.is_set():
                log.warning(str(error))
            self._noticed.set()
        except UserError:
            pass  # a full disk or a lost storage ends the run where it matters, at the next checkpoint


def read_progress(run: str | Path) -> Word | None:
    """What a run, in a folder or at a URI, last wrote about itself; None where there is nothing (to be) read."""
    word = read_word(run)
    needed = {"state", "host", "pid", "born", "started", "stage", "figures", "updated"}
    return word if word is not None and needed <= word.keys() else None

"""What a person sees: text with its tables marked, and while a run is under way a bar with the time left. Plain lines when not
at a terminal."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

LINE_EVERY = 60.0  # seconds between lines about one step, where there is no terminal to draw a bar on


def show(text: str, stream: TextIO | None = None) -> None:
    """Print what a command has to say, on standard output: the same characters everywhere, at a terminal with its tables marked."""
    stream = stream or sys.stdout
    if stream.isatty():
        Console(file=stream).print(marked(text), soft_wrap=True)
    else:
        print(text, file=stream, flush=True)


_STYLES = {
    r"(?<!\w)–(?!\w)": "dim",  # a figure that is not there
    r"^\+\d+\.\d mAP points": "bold green",
    r"^-\d+\.\d mAP points": "bold red",
    r"\b(?:running|finished)\b(?=  |$)": "green",
    r"\b(?:stopped|damaged)\b(?=  |$)": "yellow",
}


def marked(text: str) -> Text:
    """The text with styles: a table's head and its last line, which stands below a second rule, are bold, rules are dim."""
    lines = text.split("\n")
    styled = [Text(line) for line in lines]
    begin = 0  # of the block, which an empty line ends
    for at, line in enumerate(lines):
        if not line.strip():
            begin = at + 1
        elif set(line.strip()) == {"─"}:
            styled[at].stylize("dim")
            bold = at - 1 if at == begin + 1 else at + 1
            if bold < len(lines):
                styled[bold].stylize("bold")
        for pattern, style in _STYLES.items():
            for found in re.finditer(pattern, line):
                styled[at].stylize(style, *found.span())
    return Text("\n").join(styled)


class TerminalReporter:
    """Shows what a :class:`distreid.training.protocols.Reporter` is told, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress: RichProgress | None = None
        self._task: TaskID | None = None
        self._title, self._total, self._first, self._started, self._printed = "", 0, 0, 0.0, 0.0

    def stage(self, title: str, total: int, done: int = 0) -> None:
        self.close()
        self._title, self._total, self._first = title, total, done
        self._started = self._printed = time.perf_counter()
        if self._console.is_terminal:
            self._progress = RichProgress(*_columns(total), console=self._console, transient=True)
            self._task = self._progress.add_task(title, total=total or None, completed=done, figures="")
            self._progress.start()

    def advance(self, done: int, figures: dict[str, float]) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, figures=_shown(figures))
        elif time.perf_counter() - self._printed > LINE_EVERY:
            self._printed = time.perf_counter()
            left = (self._printed - self._started) / max(1, done - self._first) * (self._total - done)
            self._print(f"  {self._title}: {done:,} of {self._total:,}, {left / 60:.0f} min left{_shown(figures)}")

    def tick(self) -> None:
        """Called now and then: where there is no bar, a step of unknown length that goes on is told of as often as others are."""
        now = time.perf_counter()
        if self._progress is None and self._title and not self._total and now - self._printed > LINE_EVERY:
            self._printed = now
            self._print(f"  {self._title}: {now - self._started:.0f} s so far")

    def note(self, text: str) -> None:
        self.close()
        self._print(text)

    def measure(self, losses: dict[str, float], images_per_second: float) -> None:
        """For dashboards: here the sum of the losses stands beside the bar."""

    def stopping(self) -> bool:
        return False

    def leaving(self) -> bool:
        return False

    def close(self) -> None:
        """End the current stage; where there is no bar, a line says how long it took."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        elif self._title:
            self._print(f"  {self._title}: {time.perf_counter() - self._started:.1f} s")
        self._title = ""

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def _columns(total: int) -> list[ProgressColumn]:
    """What stands in a bar's line, with or without a known length."""
    title = TextColumn("  {task.description:<34}", markup=False)
    if not total:
        return [title, SpinnerColumn(), TimeElapsedColumn()]
    figures = TextColumn("{task.fields[figures]}", markup=False)
    return [title, TaskProgressColumn(), BarColumn(16), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"), figures]


def _shown(figures: dict[str, float]) -> str:
    return "".join(f", {name} {value:.3g}" for name, value in figures.items())


class _ToTerminal(logging.Handler):
    """Messages on standard output, warnings and worse on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        show(self.format(record), stream)


def log_to_terminal() -> None:
    """Show what distreid logs, as its commands do; a program that uses the library decides for itself."""
    logger = logging.getLogger("distreid")
    if not any(isinstance(handler, _ToTerminal) for handler in logger.handlers):
        logger.addHandler(_ToTerminal())
        logger.setLevel(logging.INFO)


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress callback (done, total) for one long step."""
    reporter = TerminalReporter()
    started = False

    def progress(done: int, total: int) -> None:
        nonlocal started
        if not started:
            reporter.stage(title, total)
            started = True
        reporter.advance(done, {})

    try:
        yield progress
    finally:
        reporter.close()

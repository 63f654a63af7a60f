"""What a person sees while a run is under way: one bar with the time left, or plain lines when not at a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

LINE_EVERY = 60.0  # seconds between lines about one step, where there is no terminal to draw a bar on


class TerminalReporter:
    """Implements :class:`distreid.methods.protocols.Reporter` on standard error."""

    def __init__(self) -> None:
        self._tty = sys.stderr.isatty()
        self._bar: tqdm | None = None
        self._title, self._total, self._started, self._printed = "", 0, 0.0, 0.0

    def stage(self, title: str, total: int, done: int = 0) -> None:
        self.close()
        self._title, self._total = title, total
        self._started = self._printed = time.perf_counter()
        if self._tty:
            self._bar = tqdm(
                total=total or None,
                initial=done,
                desc=f"  {title:<34}",
                leave=False,
                dynamic_ncols=True,
                bar_format="{desc}{percentage:3.0f}% {bar:24} {n_fmt}/{total_fmt}, {remaining} left{postfix}"
                if total
                else "{desc}…",
            )

    def advance(self, done: int, figures: dict[str, float]) -> None:
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()}, refresh=False)
            self._bar.update(done - self._bar.n)
        elif not self._tty and time.perf_counter() - self._printed > LINE_EVERY:
            self._printed = time.perf_counter()
            shown = "".join(f", {name} {value:.3g}" for name, value in figures.items())
            print(f"  {self._title}: {done:,} of {self._total:,}{shown}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        self.close()
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the current stage; where there is no bar, a line says how long it took."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._title and not self._tty:
            print(f"  {self._title}: {time.perf_counter() - self._started:.1f} s", file=sys.stderr, flush=True)
        self._title = ""


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


def percent(fraction: float | None) -> str:
    """0.6784 -> '67.8'; nothing known -> '–'."""
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def metrics_text(metrics: dict[str, Any]) -> str:
    """Accuracy as a person reads it, in percent, with what it was measured on."""
    lines = [
        f"mAP     {percent(metrics['mAP']):>5}   (average precision by {_AP_NAMES[metrics['ap']]})",
        *(
            f"{name:<7} {percent(metrics[key]):>5}"
            for name, key in (("Rank-1", "rank1"), ("Rank-5", "rank5"), ("Rank-10", "rank10"))
        ),
        f"mINP    {percent(metrics['mINP']):>5}",
        f"{metrics['queries']:,} queries against {metrics['gallery']:,} gallery images",
    ]
    if metrics["queries_without_positive"]:
        lines.append(f"{metrics['queries_without_positive']:,} queries have no match in the gallery and are left out of the means")
    return "\n".join(lines)


_AP_NAMES = {"hits": "precision at hits", "trapezoid": "the official trapezoid"}


def result_table(result: dict[str, Any]) -> str:
    """The run in one table: in-domain source accuracy, direct transfer, each round, final."""
    head = f"{'':<20}{'eps':>7}{'clusters':>10}{'outliers':>10}{'mAP':>8}{'Rank-1':>8}{'seconds':>9}"
    rule = "─" * len(head)
    rows = [head, rule]

    def row(name: str, metrics: dict[str, Any] | None, labelling: str = f"{'':>27}", seconds: str = "") -> str:
        metrics = metrics or {}
        return f"{name:<20}{labelling}{percent(metrics.get('mAP')):>8}{percent(metrics.get('rank1')):>8}{seconds:>9}"

    if result.get("in_domain"):
        rows.append(row("source, in domain", result["in_domain"]))
    if result["method"] == "daam":
        rows.append(row("direct transfer", result.get("direct_transfer")))
    for figures in result.get("rounds", []):
        labelled = "eps" in figures
        labelling = f"{figures['eps']:>7.3f}{figures['clusters']:>10,}{figures['outliers']:>10,}" if labelled else f"{'':>27}"
        name = f"round {figures['round']}" if labelled else f"stage {figures['round']}, {figures['stage']}"
        rows.append(row(name, figures, labelling, f"{sum(figures['seconds'].values()):.0f}"))
    rows += [rule, row("adapted (final)", result.get("final"))]
    if result.get("final") and result.get("direct_transfer"):
        gain = 100 * (result["final"]["mAP"] - result["direct_transfer"]["mAP"])
        rows.append(f"{gain:+.1f} mAP points over direct transfer; mAP and Rank-1 in percent, single query, no re-ranking")
    return "\n".join(rows)

"""What a person sees while a run is under way: one bar with the time left, or plain lines when not at a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

from distreid.methods.registry import report_of
from distreid.text import percent, protocol_name, protocol_of

if TYPE_CHECKING:
    from distreid.labels import PseudoLabels

LINE_EVERY = 60.0  # seconds between lines about one step, where there is no terminal to draw a bar on


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


def metrics_text(metrics: dict[str, Any]) -> str:
    """Accuracy as a person reads it, in percent, with the protocol it was measured by and what it was measured on."""
    if metrics["protocol"] == "single_query":
        lines = _single_query_lines(metrics)
    elif metrics["protocol"] == "single_shot":
        lines = _split_lines(metrics, ": one image of each identity, from another camera than the query's")
    else:
        lines = _split_lines(metrics, ": query images looked up in the other camera")
        lines += ["", *_split_lines(metrics["reverse"] | {"protocol": metrics["protocol"]}, ": the other direction")]
    if metrics.get("flip"):
        lines.append("features averaged over each image and its mirror image")
    if metrics.get("reranked"):
        lines.append("k-reciprocal re-ranking: queries see each other, so this is no single-query figure")
    return "\n".join(lines)


_AP_NAMES = {"hits": "precision at hits", "trapezoid": "the official trapezoid"}
_RANKS = (1, 5, 10, 20)


def _single_query_lines(metrics: dict[str, Any]) -> list[str]:
    other = "trapezoid" if metrics["ap"] == "hits" else "hits"
    lines = [
        f"mAP     {percent(metrics['mAP']):>5}   (average precision by {_AP_NAMES[metrics['ap']]}; "
        f"{percent(metrics[f'mAP_{other}'])} by {_AP_NAMES[other]})",
        *(f"{f'Rank-{rank}':<7} {percent(metrics[f'rank{rank}']):>5}" for rank in _RANKS),
        f"mINP    {percent(metrics['mINP']):>5}",
        f"{protocol_name(metrics)}: {metrics['queries']:,} queries against {metrics['gallery']:,} gallery images",
    ]
    if metrics["junk"]:
        lines.append(f"{metrics['junk']:,} junk images (pid -1) left out of the gallery")
    if metrics["queries_without_positive"]:
        lines.append(f"{metrics['queries_without_positive']:,} queries have no match in the gallery and are left out of the means")
    return lines


def _split_lines(metrics: dict[str, Any], said: str) -> list[str]:
    """said: what follows the protocol's name."""
    splits = metrics["splits"]
    lines = [
        protocol_name(metrics) + said,
        *(
            f"{f'Rank-{rank}':<7} {percent(metrics[f'rank{rank}']):>5}"
            + (f" ± {percent(metrics[f'rank{rank}_std'])}" if splits > 1 else "")
            for rank in _RANKS
        ),
        f"mean{' ± standard deviation' if splits > 1 else ''} over {splits} split{'s' if splits > 1 else ''}; "
        f"{metrics['queries']:,.0f} queries against {metrics['gallery']:,.0f} gallery images each",
    ]
    if metrics["queries_without_positive"]:
        lines.append(
            f"{metrics['queries_without_positive']:,.1f} queries a split have no match in the gallery and are left out of the means"
        )
    return lines


def labels_text(labels: PseudoLabels) -> str:
    """A labelling as a person judges it, without knowing any true label."""
    figures = labels.quality
    lines = [
        f"{len(labels.labels):,} features: {labels.num_clusters:,} clusters, {int(figures['outliers']):,} outliers, "
        f"eps {labels.eps:.4f}"
    ]
    if labels.num_clusters:
        smallest, largest = int(figures["smallest_cluster"]), int(figures["largest_cluster"])
        lines.append(
            f"clusters of {smallest:,} to {largest:,} features, median {figures['median_cluster']:g}; "
            f"silhouette {figures['silhouette']:.3f} (1 is best)"
        )
    if "recall" in labels.stats:
        lines.append(f"approximate neighbours: {percent(labels.stats['recall'])}% of the exact ones on a sample")
    return "\n".join(lines)


def translation_text(images: Path, masks: Path | None, figures: dict[str, float]) -> str:
    """What `distreid translate` wrote, and what it measured against true masks."""
    lines = [f"images: {images}"] + ([f"masks:  {masks}"] if masks is not None else [])
    return "\n".join(lines + [f"{name.replace('_', ' '):<28}{value:.3f}" for name, value in figures.items()])


def result_table(result: dict[str, Any]) -> str:
    """The run in one table: in-domain source accuracy, direct transfer, each round, final."""
    spec = report_of(result["method"])
    width = 27 if spec.labelled else 0
    labelling = f"{'eps':>7}{'clusters':>10}{'outliers':>10}" if spec.labelled else ""
    head = f"{'':<20}{labelling}{'mAP':>8}{'Rank-1':>8}{'seconds':>9}"
    rule = "─" * len(head)
    rows = [head, rule]

    def row(name: str, metrics: dict[str, Any] | None, labelling: str = "", seconds: str = "") -> str:
        metrics = metrics or {}
        figures = f"{percent(metrics.get('mAP')):>8}{percent(metrics.get('rank1')):>8}{seconds:>9}"
        return f"{name:<20}{labelling:>{width}}{figures}".rstrip()

    if result.get("in_domain"):
        rows.append(row("source, in domain", result["in_domain"]))
    if spec.before:
        rows.append(row("direct transfer", result.get("direct_transfer")))
    for figures in result.get("rounds", []):
        labelling = f"{figures['eps']:.3f}{figures['clusters']:>10,}{figures['outliers']:>10,}" if spec.labelled else ""
        name = spec.title(figures["round"], figures.get("stage", ""))
        rows.append(row(name, figures, labelling, f"{sum(figures['seconds'].values()):.0f}"))
    rows += [rule, row(spec.final, result.get("final"))]
    if result.get("final") and result.get("direct_transfer"):
        gain = 100 * (result["final"]["mAP"] - result["direct_transfer"]["mAP"])
        rows.append(f"{gain:+.1f} mAP points over direct transfer")
    rows.append(", ".join(filter(None, ("mAP and Rank-1 in percent", protocol_of(result), "no re-ranking"))))
    return "\n".join(rows)

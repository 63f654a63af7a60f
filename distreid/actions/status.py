"""`distreid status` and `distreid runs`: what run directories say, as text. Quick: needs neither torch nor ray."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distreid.common.claim import alive
from distreid.common.errors import UserError
from distreid.common.layout import judged_files, small_files
from distreid.common.mirror import on_this_machine
from distreid.common.progress import read_progress
from distreid.common.text import duration, percent, text_table
from distreid.methods.stopping import replay
from distreid.report.read import Run, read_run
from distreid.report.text import result_table, stopping_text


def status(place: str | Path) -> str:
    """One run, in a folder or at a URI: its state, the step that it is in, the time that step needs yet, and its figures so far.

    Raises:
        UserError: the folder is no run, or its files are damaged.
    """
    run, progress = read_run(on_this_machine(str(place), small_files)), read_progress(place)
    state = state_of(run, progress)
    lines = [f"{place}: {state}{_since(state, progress)}"]
    lines.append(f"  {run.method}, {run.source} → {run.target}, {_rounds(run)} {run.spec.round}s finished")
    if progress is not None and state == "running":
        lines.append(f"  {_step(progress)}")
        means = [sum(figures["seconds"].values()) for figures in run.rounds if figures.get("seconds")]
        if means:
            lines.append(f"  a round takes {duration(sum(means) / len(means))}")
    elif state == "stopped":
        reason = "it ended without a word: killed, or the machine went down" if progress is not None else "no word of it since"
        if progress is not None and progress["state"] != "running":
            reason = progress.get("error") or "interrupted"
        lines += [f"  {reason}", "  continue it with: distreid train CONFIG.yaml --resume"]
    if run.stopping:
        lines.append(f"  {stopping_text(run.stopping)}")
    if run.direct_transfer or run.rounds:
        lines += ["", result_table(_result(run))]
    return "\n".join(lines)


def status_record(place: str | Path) -> dict[str, Any]:
    """The same for programs.

    `models` holds what the labels say of each round's model, of every run of rounds and whatever its rule; `would_keep` is the
    round whose model `adapt.stop: auto` keeps, or would have kept, `reason` why, and `kept` the round whose model the run
    stands for.

    Raises:
        UserError: as :func:`status`.
    """
    run, progress = read_run(on_this_machine(str(place), judged_files)), read_progress(place)
    settings = run.config.get("adapt") or {}
    return {
        "run": str(place),
        "state": state_of(run, progress),
        **_result(run),
        "planned": run.planned,
        "stop": settings.get("stop", "never"),
        "kept": run.kept,
        "would_keep": run.would_keep,
        "reason": replay(run.models).reason,
        "models": [asdict(model) for model in run.models],
    }


def runs(folder: Path) -> str:
    """One line a run below ``folder``, by path."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one that your runs are in")
    rows: list[tuple[str, ...]] = []
    for path in _run_folders(folder):
        name = str(path.relative_to(folder)) if path != folder else path.resolve().name
        try:
            run = read_run(path)
        except UserError:
            rows.append((name, "damaged", *[""] * 6))
            continue
        measured = run.measured[-1]["mAP"] if run.measured else None
        direct = run.direct_transfer["mAP"] if run.direct_transfer else None
        rows.append(
            (
                name,
                state_of(run, read_progress(path)),
                run.method,
                f"{run.source} → {run.target}",
                _rounds(run),
                percent(direct),
                percent(measured),
                run.protocol,
            )
        )
    if not rows:
        raise UserError(f"{folder}: no run in it; a run is a folder that `distreid train` wrote to")
    head = ("run", "state", "method", "source → target", "rounds", "direct", "mAP", "protocol")
    return text_table(head, rows, left={0, 1, 2, 3, 7}, rule=False)


def state_of(run: Run, progress: dict[str, Any] | None) -> str:
    """running, finished or stopped."""
    if progress is not None and alive(progress):
        return "running"
    return "finished" if run.finished else "stopped"


def _since(state: str, progress: dict[str, Any] | None) -> str:
    if progress is None:
        return ""
    if state == "running":
        return f" for {duration(time.time() - progress['started'])}, process {progress['pid']} on {progress['host']}"
    return f" {duration(time.time() - progress['updated'])} ago"


def _step(progress: dict[str, Any]) -> str:
    """The step under way, how far it is, and the time it needs at the speed so far."""
    stage = progress["stage"]
    if stage is None:
        return "between two steps"
    figures = "".join(f", {name} {value:.3g}" for name, value in progress["figures"].items())
    elapsed, fresh = progress["updated"] - stage["started"], stage["done"] - stage["first"]
    if not stage["total"] or fresh <= 0:
        return f"{stage['title']}: for {duration(time.time() - stage['started'])}{figures}"
    left = max(0.0, elapsed / fresh * (stage["total"] - stage["done"]) - (time.time() - progress["updated"]))
    return f"{stage['title']}: {100 * stage['done'] / stage['total']:.0f}%, {duration(left)} left{figures}"


def _rounds(run: Run) -> str:
    return f"{len(run.rounds)}/{run.planned or '?'}"


def _result(run: Run) -> dict[str, Any]:
    return {
        "method": run.method,
        "source": run.source,
        "target": run.target,
        "seed": run.seed,
        "in_domain": run.in_domain,
        "direct_transfer": run.direct_transfer,
        "rounds": run.rounds,
        "final": run.final,
        **({"stopping": run.stopping} if run.stopping else {}),
    }


def _run_folders(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        folders.sort()
        if "config.yaml" in files and {"checkpoints", "metrics.jsonl"} & {*folders, *files}:
            folders.clear()  # what is in a run is its own
            yield Path(path)

"""What the trials of a sweep came to, read from their run directories, and the choice that needs no target label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from distreid.common.layout import model_round
from distreid.labels.quality import overall
from distreid.sweeps.rows import Row, cell
from distreid.training import RunDirectory


def rounds_of(run: RunDirectory) -> list[Row]:
    """A line for each finished round: round, quality (`labels.quality.overall`), silhouette, agreement, clusters, outliers, eps,
    seconds, and where the target has a test set oracle_mAP and oracle_rank1."""
    if not run.metrics.exists():
        return []
    labels: dict[int, dict[str, Any]] = {}
    rows = []
    for text in run.metrics.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break  # still being written
        number = line["round"]
        if line["event"] == "labels":
            labels[number] = line
        elif line["event"] == "round" and number > 0:
            rows.append(_round(run, line, labels.get(number, {})))
    return rows


def _round(run: RunDirectory, line: dict[str, Any], labels: dict[str, Any]) -> Row:
    row: Row = {"round": line["round"]}
    silhouette = labels.get("quality", {}).get("silhouette")
    if silhouette is not None:
        count = len(run.round_labels(line["round"])["labels"])
        row |= {"quality": overall(silhouette, line["outliers"], count), "silhouette": silhouette}
    if "agreement" in labels:
        row["agreement"] = labels["agreement"]["adjusted_rand"]
    row |= {key: line[key] for key in ("clusters", "outliers", "eps") if key in line}
    row |= {f"oracle_{key}": line[key] for key in ("mAP", "rank1") if key in line}
    return row | {"seconds": sum(line["seconds"].values())}


def collect(output: Path) -> list[Row]:
    """A row for each trial of a sweep's folder: trial, status (finished, failed, stopped early, unfinished), its settings, the
    figures of the last finished round or of the one that `adapt.stop` kept, all rounds' seconds, and the reason where it failed."""
    rows = []
    for file in sorted((output / "trials").glob("*.json")):
        settings = json.loads(file.read_text(encoding="utf-8"))
        run, reason = RunDirectory(output / "runs" / file.stem), failure_file(output, file.stem)
        marks = {"finished": run.result, "failed": reason, "stopped early": stop_file(output, file.stem)}
        status = next((name for name, mark in marks.items() if mark.exists()), "unfinished")
        row: Row = {"trial": file.stem, "status": status, **settings}
        rounds = rounds_of(run)
        if rounds:
            row |= {**_kept(run, rounds), "seconds": sum(line["seconds"] for line in rounds)}
        if status == "failed":
            row["reason"] = reason.read_text(encoding="utf-8").strip()
        rows.append(row)
    return rows


def _kept(run: RunDirectory, rounds: list[Row]) -> Row:
    """The line of the round whose model the run stands for; of the first one where that is the source model."""
    number = model_round(file.name for file in run.checkpoints.glob("*"))
    return next((line for line in rounds if line["round"] == number), rounds[0] if number == 0 else rounds[-1])


def failure_file(output: Path, trial: str) -> Path:
    """Where a failed trial's one-line reason is kept."""
    return output / "failures" / f"{trial}.txt"


def stop_file(output: Path, trial: str) -> Path:
    """Marks a trial that the scheduler stopped."""
    return output / "failures" / f"{trial}.stopped"


@dataclass(frozen=True)
class Choice:
    """One setting (all seeds of it) and its mean figures. oracle: mAP, None where the target has no test set."""

    settings: dict[str, Any]
    quality: float
    oracle: float | None
    seeds: int

    @property
    def text(self) -> str:
        return ", ".join(f"{key}={cell(value)}" for key, value in self.settings.items()) or "the base"


def choices(rows: Sequence[Row], keys: Sequence[str]) -> list[Choice]:
    """Every setting with a finished trial that has a quality, the best quality first. keys: the settings that were swept."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == "finished" and row.get("quality") is not None:
            groups.setdefault(json.dumps([row.get(key) for key in keys if key != "seed"]), []).append(row)
    made = []
    for group in groups.values():
        settings = {key: group[0][key] for key in keys if key != "seed" and key in group[0]}
        oracle = mean(row["oracle_mAP"] for row in group) if all("oracle_mAP" in row for row in group) else None
        made.append(Choice(settings, mean(row["quality"] for row in group), oracle, len(group)))
    return sorted(made, key=lambda choice: -choice.quality)


def advice(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """The choice by quality and, where accuracies are known, how it stands against the oracle."""
    found = choices(rows, keys)
    if not found:
        return ["no trial has finished with a round of labels: nothing to choose from"]
    best = found[0]
    lines = [f"chosen without target labels: {best.text} (quality {100 * best.quality:.1f})"]
    known = [(choice.oracle, choice) for choice in found if choice.oracle is not None]
    if best.oracle is not None and len(known) > 1:
        top, where = max(known, key=lambda pair: pair[0])
        average = mean(accuracy for accuracy, _ in known)
        lines.append(
            f"oracle (target test accuracy, for judging only): mAP {100 * best.oracle:.1f} at this choice, "
            f"{100 * top:.1f} at the best ({where.text}), {100 * average:.1f} on average"
        )
    return lines

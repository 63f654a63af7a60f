"""Run directories as `distreid.methods.daam` leaves them, with drawn figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

DEFAULTS = {"method": "daam", "seed": 0, "source": {"data": ""}, "target": {"data": ""}, "adapt": {"rounds": 5, "epochs": 260}}


def metrics(mAP: float) -> dict[str, Any]:
    cmc = [1 - (1 - mAP) * 0.8**rank for rank in range(1, 51)]
    shares = {"mAP": mAP, "mAP_hits": mAP, "mAP_trapezoid": mAP - 0.01, "mINP": mAP / 2}
    ranks = {f"rank{rank}": cmc[rank - 1] for rank in (1, 5, 10, 20)}
    return {"ap": "hits", **shares, **ranks, "queries": 40, "queries_without_positive": 1, "gallery": 300, "junk": 2, "cmc": cmc}


def lines_of(rounds: int, *, tested: bool = True, pretraining: int = 3, epochs: int = 2) -> list[dict[str, Any]]:
    """metrics.jsonl of a whole run. The accuracies differ in every place, so that a mix-up shows."""

    def epoch(number: int, at: int, loss: dict[str, float]) -> dict[str, Any]:
        return {
            "event": "epoch",
            "round": number,
            "epoch": at,
            "loss": loss,
            "lr": 0.01,
            "images_per_second": 100.0,
            "seconds": 2.5,
        }

    lines = [epoch(0, at, {"source": 4.0 / at}) for at in range(1, pretraining + 1)]
    start = {"in_domain": metrics(0.8215), "direct_transfer": metrics(0.3341)} if tested else {}
    lines.append({"event": "round", "round": 0, **start})
    for r in range(1, rounds + 1):
        figures = {"round": r, "eps": 0.5 - r / 100, "clusters": 1010 + r, "outliers": 90 - r}
        seconds = {"extract": 1.5 * r, "label": 0.25 * r}
        lines.append({"event": "labels", **figures, "seconds": 0.2})
        lines += [epoch(r, at, {"source": 0.3 / at, "target": 1.7 / at, "domain": 0.1 / at}) for at in range(1, epochs + 1)]
        seconds |= {"train": 5.0 * r} | ({"evaluate": 0.75 * r} if tested else {})
        lines.append({"event": "round", **figures, "seconds": seconds, **(metrics(0.4 + r / 37) if tested else {})})
    return lines


def edaan_lines(stages: Sequence[str] = ("joint",), metric: str = "metric", **more: float) -> list[dict[str, Any]]:
    """metrics.jsonl of an EDAAN run as 0.1.0 wrote it: the terms of each stage, two epochs a stage."""
    translation = {"gan": 1.375, "cycle": 4.5, "attention": 0.25, **more}
    reid = {"identity": 2.125} | ({metric: 3.25} if metric else {})
    terms = {"joint": translation | reid, "translation": translation, "reid": reid}
    lines: list[dict[str, Any]] = []
    for number, stage in enumerate(stages, 1):
        loss = terms[stage] | ({} if stage == "reid" else {"discriminator": 1.5})
        lines += [
            {"event": "epoch", "round": number, "epoch": epoch, "loss": {key: value / epoch for key, value in loss.items()}}
            | {"lr": 2e-4, "images_per_second": 50.0, "seconds": 2.0}
            for epoch in (1, 2)
        ]
        measured = {} if stage == "translation" else {"protocol": "single_query", **metrics(0.25)}
        lines.append({"event": "round", "round": number, "stage": stage, "seconds": {"train": 4.0, "evaluate": 1.0}, **measured})
    return lines


def edaan_run(path: Path, lines: list[dict[str, Any]], **settings: str) -> Path:
    rounds = [{key: value for key, value in line.items() if key != "event"} for line in lines if line["event"] == "round"]
    final = {key: rounds[-1][key] for key in ("mAP", "rank1", "rank5", "rank10")}
    result = {"method": "edaan", "source": "day", "target": "night", "seed": 3, "in_domain": metrics(0.5), "rounds": rounds}
    return write_run(path, lines, result=result | {"final": final}, config={"method": "edaan", "edaan": settings})


def result_of(lines: list[dict[str, Any]], **names: str) -> dict[str, Any]:
    ends = [{key: value for key, value in line.items() if key != "event"} for line in lines if line["event"] == "round"]
    start, rounds = {key: value for key, value in ends[0].items() if key != "round"}, ends[1:]
    final = {key: rounds[-1][key] for key in ("mAP", "rank1", "rank5", "rank10")} if rounds and "mAP" in rounds[-1] else None
    named = {"method": "daam", "source": "day", "target": "night", "seed": 3} | names
    return {**named, **start, "rounds": rounds, "final": final}


def write_run(
    path: Path,
    lines: list[dict[str, Any]],
    *,
    result: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    tail: str = "",
) -> Path:
    """result: None leaves the run unfinished; tail: what a killed writer left at the end of metrics.jsonl."""
    (path / "labels").mkdir(parents=True)
    usual = {"method": "daam", "seed": 3, "source": {"data": "x/day.arrow"}, "target": {"data": "x/night.arrow"}}
    settings = {**usual, "adapt": {"rounds": 3, "epochs": 260}, **(config or {})}
    (path / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail, encoding="utf-8")
    if result is not None:
        (path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    for line in lines:
        if line["event"] == "labels":
            labels = np.array([-1, -1, *[0] * 4, *[1] * 4, *[2] * (10 + line["round"])])
            np.savez(path / "labels" / f"round-{line['round']:02d}.npz", labels=labels, centers=np.zeros((3, 2)), eps=line["eps"])
    return path


def whole_run(path: Path, rounds: int = 3, *, tested: bool = True, **names: str) -> Path:
    lines = lines_of(rounds, tested=tested)
    return write_run(path, lines, result=result_of(lines, **names))


def bare_run(folder: Path) -> Path:
    """A run that has begun and has no figures yet."""
    (folder / "checkpoints").mkdir(parents=True)
    settings = {"method": "daam", "source": {"data": "day.arrow"}, "target": {"data": "night.arrow"}, "adapt": {"rounds": 4}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from distreid.common.errors import UserError
from distreid.training import RunDirectory

LINES: list[dict[str, Any]] = [
    {"event": "epoch", "round": 0, "epoch": 1, "loss": {"source": 3.0}, "lr": 0.1, "images_per_second": 9.0, "seconds": 1.0},
    {"event": "round", "round": 0, "direct_transfer": {"mAP": 0.25, "rank1": 0.5}},
    {"event": "labels", "round": 1, "eps": 0.5, "clusters": 7, "outliers": 3, "seconds": {}},
    {"event": "epoch", "round": 1, "epoch": 1, "loss": {"source": 2.0}, "lr": 0.1, "images_per_second": 9.0, "seconds": 1.0},
]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_a_continued_run_has_each_point_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    run = RunDirectory(tmp_path / "run", tensorboard=True)
    run.create("seed: 0\n", resume=False)
    run.truncate_metrics(0)
    for line in LINES[:3]:
        run.append(line)
    checkpoint = run.metrics_size()
    run.append(LINES[3])
    again = RunDirectory(tmp_path / "run", tensorboard=True)  # killed, and continued from its checkpoint
    again.truncate_metrics(checkpoint)
    again.append(LINES[3])
    found = curves(tmp_path / "run" / "tensorboard")
    assert found["epoch/loss source"] == [(1, 3.0), (2, 2.0)]
    assert found["round/mAP"] == [(0, 0.25)] and found["round/clusters"] == [(1, 7.0)]


def test_without_the_package_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"distreid\[tensorboard\]"):
        RunDirectory(tmp_path, tensorboard=True).truncate_metrics(0)

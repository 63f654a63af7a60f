"""`distreid bench train`, `input` and `loop`: what they measure, and what they say of `auto` and of the bottleneck."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distreid.actions.bench import bench_train
from distreid.actions.bench_input import bottleneck
from distreid.cli import main
from distreid.config import Config, to_yaml
from tests.commands import fails
from tests.training_runs import edaan_settings


@pytest.mark.slow
def test_train_measures_both_formats_in_both_layouts_and_says_which_auto_takes() -> None:
    figures = bench_train(height=32, width=16, batch=4)
    assert (figures["method"], figures["backbone"], figures["last_stride"], figures["input"]) == ("daam", "resnet18", 2, "32x16")
    names = ("fp32", "fp32_channels_last", "bf16", "bf16_channels_last")
    speed = {name: figures[f"{name}_images_per_second"] for name in names}
    assert min(speed.values()) > 0 and figures["augmentation_share"] > 0
    assert figures["speedup"] == speed["bf16_channels_last"] / speed["fp32"]
    auto = figures["auto"]
    taken = speed[auto["precision"] + ("_channels_last" if auto["channels_last"] else "")]
    assert auto["of_fastest"] == taken / max(speed.values()) and auto["reason"]


def test_input_measures_each_part_alone_and_all_together(
    small_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distreid.actions.bench_input.BUDGET", 0.1)
    file = tmp_path / "ours.yaml"
    file.write_text(to_yaml(small_config()))
    main(["bench", "input", "--config", str(file), "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert (figures["method"], figures["input"], figures["batch"], figures["data"]) == ("daam", "32x16", 16, "day")
    speed = {name: figures[f"{name}_images_per_second"] for name in ("decode", "augment", "step", "together")}
    assert min(speed.values()) > 0 and figures["of_step"] == speed["together"] / speed["step"]
    assert figures["bottleneck"] == bottleneck(speed, beside=figures["device"] == "cuda")


def test_loop_trains_beside_a_bare_loop(
    small_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many images on both sides, in the run's own format, without what the bare loop lacks; nothing is written."""
    monkeypatch.setattr("distreid.actions.bench_loop.TURNS", 2)
    file, threads = tmp_path / "ours.yaml", torch.get_num_threads()
    file.write_text(to_yaml(small_config()))
    main(["bench", "loop", "--config", str(file), "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert (figures["method"], figures["input"], figures["batch"], figures["precision"]) == ("daam", "32x16", 16, "fp32")
    assert min(figures[f"{name}_images_per_second"] for name in ("loop", "bare")) > 0 and figures["of_bare"] > 0
    assert list(tmp_path.iterdir()) == [file] and torch.get_num_threads() == threads


def test_the_bottleneck_is_what_takes_longest() -> None:
    """On a CPU all parts share the cores; beside a GPU decoding has its own."""
    assert bottleneck({"decode": 100, "augment": 150, "step": 120}, beside=False) == "decode"
    assert bottleneck({"decode": 100, "augment": 150, "step": 120}, beside=True) == "step"
    assert bottleneck({"decode": 60, "augment": 150, "step": 120}, beside=True) == "decode"
    assert bottleneck({"decode": 300, "augment": 50, "step": 120}, beside=True) == "augment"


def test_a_method_without_a_step_to_time_is_one_line(
    packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edaan.yaml"
    file.write_text(json.dumps(edaan_settings(packed_pair, tmp_path / "run")))
    for what in ("input", "loop"):
        line = fails(capsys, "bench", what, "--config", str(file))
        assert "method=edaan has no step to time" in line and line.strip().endswith("of method: daam")

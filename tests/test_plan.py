"""The paper model redone by hand, and that a user reads what is assumed and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from distreid.cli import main
from tests.data.layouts import cuhk03_mat

TRAIN = {
    "method": "daam", "backbone": "resnet50", "last_stride": 2, "input": "384x128", "batch": 32, "device": "cuda",
    "fp32_images_per_second": 100.0, "bf16_images_per_second": 200.0, "bf16_channels_last_images_per_second": 300.0,
}  # fmt: skip
LABELS = {
    "n": 10_000, "dim": 2048, "seconds": {"neighbours": 10.0, "dbscan": 2.0, "jaccard": 3.0}, "seconds_product": 5.0,
    "peak_bytes_before": 10**9, "peak_bytes": 2 * 10**9,
}  # fmt: skip
SCORE = {"queries": 1000, "gallery": 10_000, "dim": 2048, "rank_seconds": 4.0}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """`distreid plan` with the given benches and options; its lines by their first word."""
    settings = {"output": "o", "source": {"data": "s.arrow"}, "target": {"data": "t.arrow"}, "adapt": {"epochs": 2, "rounds": 3}}
    settings["runtime"] = {"precision": "fp32", "channels_last": False}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))

    def plan(*options: str, **benches: dict[str, Any]) -> str:
        files = []
        for name, figures in benches.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(figures))
            files += ["--bench", str(tmp_path / f"{name}.json")]
        overrides = [option for option in options if "=" in option]
        main(["plan", str(tmp_path / "c.yaml"), *overrides, *(option for option in options if option not in overrides), *files])
        return capsys.readouterr().out

    return plan


def row(text: str, name: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(f"  {name}")]
    return line.removeprefix(f"  {name}").strip()


def test_one_gpu_like_the_one_measured(run) -> None:
    text = run("--images", "30000", "--queries", "2000", "--gallery", "20000", train=TRAIN, labels=LABELS, score=SCORE)
    assert row(text, "extract") == "2 min"  # 30,000 images, a forward pass a third of a step
    assert row(text, "train, 2 epochs") == "20 min"  # 2 x 2 x 30,000 at 100 a second
    assert row(text, "label") == "2 min"  # 9 x 10 + 3 x 5
    assert row(text, "evaluate") == "1 min"  # 22,000 at 300 a second, and 4 x 4
    assert row(text, "move features and labels") == "0.0 s"
    assert row(text, "a round") == "25 min" and row(text, "3 rounds") == "1 h 14 min"
    assert row(text, "object store, other nodes") == "234 MiB"  # 30,000 x 2,048 x 4
    assert "Not measured" not in text and "FLOPs are counted" in text


def test_more_gpus_share_the_images_and_pay_for_the_gradients(run) -> None:
    sizes = ["--images", "30000", "model.batchnorm_group=4"]
    eight = run(*sizes, "--nodes", "2", "--gpus", "4", train=TRAIN)
    assert row(eight, "extract") == "12.2 s"  # 30,000 of 8.06 of a step's 24.9 GFLOPs an image
    # 3,750 steps: 32 images at 800 a second, and 2 x 7/8 x 102.4 MB at 1.25 GB/s
    assert row(eight, "train, 2 epochs") == "11 min" and row(eight, "  of it, gradients on the way") == "9 min"
    fast = run(*sizes, "--gpus", "8", "runtime.precision=bf16", "runtime.channels_last=true", train=TRAIN)
    assert row(fast, "train, 2 epochs") == "2 min"


def test_a_smaller_bench_is_scaled(run) -> None:
    ours, theirs = 4.09 * 384 * 128 / 224**2, 1.82 * 192 * 64 / 224**2  # published multiply-adds
    small = {**TRAIN, "backbone": "resnet18", "input": "192x64", "fp32_images_per_second": 100 * ours / theirs}
    assert row(run("--images", "30000", train=small), "train, 2 epochs") in ("20 min", "21 min")  # the attention costs a little


@pytest.mark.parametrize("stride", [1, 2])
def test_both_sides_have_a_last_stride(run, stride: int) -> None:
    """0.1.0 measured at 1, did not say so, and scaled one side only."""
    own = f"model.last_stride={stride}"
    assert row(run("--images", "30000", own, train={**TRAIN, "last_stride": stride}), "train, 2 epochs") == "20 min"
    old = {key: value for key, value in TRAIN.items() if key not in ("last_stride", "method")}
    assert row(run("--images", "30000", own, train=old), "train, 2 epochs") == {1: "20 min", 2: "12 min"}[stride]


def test_edaan_is_planned_as_itself(run) -> None:
    what = ["method=edaan", "edaan.epochs=1", "edaan.decay_epochs=1", "input.erase=0", "input.pad=0", "model.batchnorm_group=4"]
    text = run("--images", "12936", *what, train=TRAIN, score=SCORE)
    assert "12,936 source images; EDAAN (edaan)" in text and "label" not in text and "extract" not in text
    # 808 steps of 14.1 TFLOPs a pass at 256 x 128 are 1.5 times as many at 384 x 128; the GPU does 100 x 24.9 GFLOPs a second.
    assert row(text, "translation and re-ID, 2 epochs") == "3 h 48 min"
    two = run("--images", "12936", *what, "edaan.variant=daan", train=TRAIN)
    assert row(two, "translation, 2 epochs") and row(two, "re-ID, 200 epochs")
    assert "distreid bench labels" not in two and "distreid bench score" in two


def test_single_shot_sets_cost_time_to_test(tmp_path: Path, run) -> None:
    """CUHK03's gallery is its queries: 0.1.0 counted no gallery, and so no time."""
    cuhk03_mat(tmp_path / "cuhk-03.mat", people=(30, 20), testsets=3, tested=16)
    main(["pack", str(tmp_path / "cuhk-03.mat"), str(tmp_path / "t.arrow"), "--format", "cuhk03"])
    text = run(f"target.data={tmp_path / 't.arrow'}", train=TRAIN, score={**SCORE, "rank_seconds": 4e5})
    # A run tests the split that it trains without: 10 galleries of its 16 people for their 46 to 48 images, 307 s at most.
    assert row(text, "evaluate") == "5 min"


def test_what_was_not_measured_is_said(run) -> None:
    text = run("--images", "1000000", train=TRAIN)
    assert row(text, "label") == "–" and row(text, "a round").startswith("at least ")
    assert "distreid bench labels --json > labels.json" in text and "distreid bench train --json" not in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--images", "100", "--gpus", "3"], "cannot be divided among runtime.workers=3"),
        (["--images", "0"], "--images 0 must be at least 1"),
        ([], "t.arrow: no such packed file to count; give --images"),
        (["--images", "10", "model.backbone=timm/vit"], "timm cannot build it"),
        (["--images", "10", "--bench", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--images", "10", "--bench", __file__], "not figures of a bench"),
    ],
)
def test_mistakes_are_one_line(run, capsys: pytest.CaptureFixture[str], options: list[str], expected: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*options)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line

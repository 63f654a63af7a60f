"""A plan redone by hand from what was rehearsed, and that a user reads what binds, what is assumed and what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from distreid.actions.plan.devices import COMPUTED, GPUS, LAUNCH, MOVED, USUAL_GPU, Device
from distreid.actions.plan.inputs import IDENTITIES, Figures, domains_of, sized
from distreid.actions.plan.memory import needed_memory, worker_memory
from distreid.actions.plan.price import Machines, device_tried, price_lines
from distreid.cli import main
from distreid.common.errors import UserError
from distreid.config import DomainConfig, config_from_dict
from distreid.methods.rehearsal import Memory, Pass, Stretch, rehearse
from distreid.methods.trial import Tried
from distreid.training.counting import Operation, Work
from distreid.training.domains import open_domain
from tests.data.layouts import cuhk03_mat

TRAIN = {
    "method": "daam", "backbone": "resnet18", "last_stride": 2, "input": "256x128", "batch": 32, "device": "cuda",
    "fp32_images_per_second": 100.0, "bf16_images_per_second": 200.0, "bf16_channels_last_images_per_second": 300.0,
}  # fmt: skip
LABELS = {
    "n": 10_000, "dim": 512, "seconds": {"neighbours": 10.0, "dbscan": 2.0, "jaccard": 3.0}, "seconds_product": 5.0,
    "peak_bytes_before": 10**9, "peak_bytes": 2 * 10**9,
}  # fmt: skip
SCORE = {"queries": 1000, "gallery": 10_000, "dim": 512, "rank_seconds": 4.0}
SETTINGS = {
    "output": "o",
    "source": {"data": "s.arrow"},
    "target": {"data": "t.arrow"},
    "input": {"height": 256, "width": 128},
    "model": {"backbone": "resnet18", "last_stride": 2},
    "pretrain": {"epochs": 1},
    "adapt": {"epochs": 2, "rounds": 3},
    "runtime": {"precision": "fp32", "channels_last": False},
}
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`distreid plan` with the given benches and options; what it prints."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(SETTINGS))

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
    """A line's figure, without what is said beside it."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"  {name}")]
    return line.removeprefix(f"  {name}").strip().partition("  ")[0]


@pytest.mark.slow
def test_one_gpu_like_the_one_measured(run: Run) -> None:
    text = run("--images", "30000", "--queries", "2000", "--gallery", "20000", train=TRAIN, labels=LABELS, score=SCORE)
    assert row(text, "pre-training, 1 epoch") == "2 min"  # 12,936 images at 100 a second: the very step of the bench
    minutes = int(row(text, "training, 2 epochs").removesuffix(" min"))
    assert 20 <= minutes <= 24  # 2 x 2 x 30,000 images, with two more heads and the kernels of mixed batches
    assert row(text, "label") == "2 min"  # 9 x 10 + 3 x 5
    assert row(text, "move features and labels") == "0.0 s"
    assert row(text, "object store, other nodes") == "59 MiB"  # 30,000 x 512 x 4
    assert "Not measured" not in text and "of 32 asked for" not in text and "12,936 images of 751 people" in text


@pytest.mark.slow
def test_json_holds_what_adds_up(run: Run) -> None:
    found = json.loads(
        run("--images", "30000", "--queries", "2000", "--gallery", "20000", "--json", train=TRAIN, labels=LABELS, score=SCORE)
    )
    parts = {(part["name"], part["in_round"]): part for part in found["parts"]}
    ranked = parts["evaluate", True]
    assert found["complete"] and found["rounds"] == 3 and ranked["times"] == 3 and parts["evaluate", False]["times"] == 1
    assert found["seconds"] == pytest.approx(sum(part["seconds"] for part in found["parts"]))
    assert found["gpu_hours"] == pytest.approx(found["seconds"] / 3600)
    in_rounds = sum(part["seconds"] for part in found["parts"] if part["in_round"])
    assert found["round_seconds"] == pytest.approx(in_rounds / 3)
    assert ranked["seconds"] == pytest.approx(3 * parts["evaluate", False]["seconds"])
    extract = parts["extract", True]["seconds"] / 3
    assert ranked["seconds"] / 3 == pytest.approx(extract * 22 / 30 + 4 * 4)  # 22,000 of 30,000 passes; 4 x 4 seconds of ranking
    assert found["memory"]["store_main"] == 2 * 30_000 * 512 * 4 and found["device"]["memory"] is None


@pytest.mark.slow
def test_gpus_share_the_images_and_pay_for_the_gradients(run: Run) -> None:
    sizes = ["--images", "30000", "model.batchnorm_group=4", "--json"]
    nodes = json.loads(run(*sizes, "--nodes", "2", "--gpus", "4", "--device", "l4", "--network", "1"))
    (training,) = [part for part in nodes["parts"] if part["name"] == "training, 2 epochs"]
    weights = 11_176_512 + 512 * 32 * 2 + 512 * 9 + 512 * 752 + 751 + 512 * 2 + 2 + 1500 * 513  # about: backbone, attention, heads
    # 3 rounds of 3,750 steps: 2 x 7/8 x 4 bytes each at 1 Gbit/s.
    assert training["seconds_links"] == pytest.approx(3 * 3750 * 2 * 7 / 8 * 4 * weights / 1.25e8, rel=0.02)
    assert training["binds"] == "links" and nodes["gpu_hours"] == pytest.approx(8 * nodes["seconds"] / 3600)
    slow = json.loads(run(*sizes, "--gpus", "2", "--device", "h100", "--decode", "50"))
    (training,) = [part for part in slow["parts"] if part["name"] == "training, 2 epochs"]
    assert training["binds"] == "input" and training["seconds"] == pytest.approx(3 * 3750 * 16 / 50)


@pytest.mark.slow
def test_a_device_is_named_and_its_memory_filled(run: Run) -> None:
    text = run("--images", "3000", "--device", "4090", "--decode", "1e6", "runtime.precision=auto", "runtime.channels_last=auto")
    assert "(RTX 4090)" in text and "256x128, bf16" in text and "starting kernels binds" in text
    fits = int(row(text, "largest batch that fits").replace(",", "").split()[0])
    assert fits % 32 == 0 and 1000 < fits < 10_000  # 24 GB; 4.5 MB an image


@pytest.mark.slow
def test_edaan_is_planned_as_itself(run: Run) -> None:
    what = ["method=edaan", "edaan.epochs=1", "edaan.decay_epochs=1", "edaan.variant=daan", "input.erase=0", "input.pad=0"]
    text = run("--images", "12936", *what, "model.batchnorm_group=4", train=TRAIN)
    assert "12,936 source images; EDAAN (daan)" in text and "label" not in text.partition("Assumed")[0] and "extract" not in text
    assert row(text, "translation, 2 epochs") and row(text, "re-ID, 200 epochs") and row(text, "all").endswith("days")
    assert "Not measured" not in text  # nothing is labelled, nothing tested


@pytest.mark.slow
def test_single_shot_sets_cost_time_to_test(tmp_path: Path, run: Run) -> None:
    """CUHK03's gallery is its queries: 0.1.0 counted no gallery, and so no time."""
    cuhk03_mat(tmp_path / "cuhk-03.mat", people=(30, 20), testsets=3, tested=16)
    main(["pack", str(tmp_path / "cuhk-03.mat"), str(tmp_path / "t.arrow"), "--format", "cuhk03"])
    text = run(f"target.data={tmp_path / 't.arrow'}", "adapt.rounds=0", train=TRAIN, score={**SCORE, "rank_seconds": 4e5})
    # A run tests the split that it trains without: 10 galleries of its 16 people for their 46 to 48 images, 307 s at most.
    assert row(text, "evaluate") == "5 min"


@pytest.mark.slow
def test_what_was_not_measured_is_said(run: Run) -> None:
    text = run("--images", "100000")
    assert row(text, "label") == row(text, "training, 2 epochs") == "–" and row(text, "a round").startswith("at least ")
    assert "distreid bench labels --json > labels.json" in text and "or name a GPU with --device" in text
    assert row(text, "GPU memory of a worker") == "0.6 GiB"


def stretch(strategy: str, stage: int, workers: int) -> float:
    memory = Memory(weights=100, gradients=90, states=180, rest=1000, peak=1300)
    found = Stretch("", 0, 1, 1, 8, 8, 4, Work(), memory, 25)
    settings = SETTINGS | {"runtime": {"workers": workers, "strategy": strategy, "zero_stage": stage}}
    config = config_from_dict(settings | {"model": {"batchnorm_group": 4}})
    return sum(worker_memory(config, workers, found))


def test_what_each_strategy_divides() -> None:
    assert stretch("ddp", 0, 1) == 1300  # a single process holds no gradients while it holds the most activations
    assert stretch("ddp", 0, 4) == 100 + 90 + 180 + 1000
    bucket = 4 * 50_000_000
    assert stretch("deepspeed", 0, 4) == 2 * 100 + 90 + 180 + 1000
    assert stretch("deepspeed", 1, 4) == 2 * 100 + 90 + 180 / 4 + 1000 + bucket
    assert stretch("deepspeed", 2, 4) == 2 * 100 + 90 / 4 + 180 / 4 + 1000 + bucket
    assert stretch("deepspeed", 3, 4) == 100 + 100 / 4 + 90 / 4 + 180 / 4 + 1000 + bucket


def test_an_operation_takes_what_binds_it() -> None:
    device = Device("d", half=100.0, full=10.0, bandwidth=5.0, memory=None, link=1.0, launch=2.0)
    work = Work()
    work.calls.update(
        {Operation(1000, 5, True): 1, Operation(1000, 5, False): 2, Operation(0, 50, False): 3, Operation(0, 1, True): 4}
    )
    assert device.seconds(work) == 10 + 2 * 100 + 3 * 10 + 4 * 2 and device.binds(work) == "arithmetic"
    assert device.scaled(2.0, "e").seconds(work) == device.seconds(work) / 2


@pytest.mark.slow
def test_the_tables_shares_give_published_throughput() -> None:
    """NVIDIA's ResNet-50 v1.5 for PyTorch (DeepLearningExamples, 21.03), mixed precision: A100 2,470, V100 1,156 to 1,200."""
    settings = {
        "output": "o", "source": {"data": "s"}, "target": {"data": "t"}, "input": {"height": 224, "width": 224, "pad": 0},
        "model": {"attention": "none", "domain_branch": False, "last_stride": 2, "batchnorm_group": 256},
        "pretrain": {"batch_size": 256, "epochs": 1}, "adapt": {"batch_size": 256, "rounds": 0},
        "runtime": {"workers": 0, "precision": "bf16", "channels_last": True},
    }  # fmt: skip
    (step,) = rehearse(config_from_dict(settings), sized("s", 512, 1000 // 2), sized("t", 1)).stretches
    assert 256 / GPUS["a100"].seconds(step.work) == pytest.approx(2470, rel=0.1)
    volta = Device("V100", COMPUTED * 125e12, COMPUTED * 15.7e12, MOVED * 0.9e12, None, 1e10, LAUNCH)
    assert 256 / volta.seconds(step.work) == pytest.approx(1178, rel=0.1)
    assert USUAL_GPU.fits is None


@pytest.mark.slow
def test_this_machine_is_tried(run: Run, packed_pair: tuple[Path, Path]) -> None:
    """Steps are made for real, with the images that are there; where some are missing, with noise, and the plan says so."""
    small = ["input.height=32", "input.width=16", "model.backbone=timm/test_resnet", "runtime.gpu=no", "runtime.workers=0"]
    there = [f"source.data={packed_pair[0]}", f"target.data={packed_pair[1]}", "evaluate.target=false", "evaluate.source=false"]
    text = run("--device", "here", *small, *there)
    assert "decoding included" in text and "a real step was timed" in text and "Python and libraries" in text
    assert "TFLOP/s" not in text and "--decode" not in text and row(text, "memory of a worker")
    text = run("--device", "here", "--images", "100", *small)
    assert "on noise" in text and row(text, "pre-training, 1 epoch")


@pytest.mark.slow
def test_what_was_tried_is_multiplied() -> None:
    config = config_from_dict(SETTINGS, ["adapt.rounds=1", "runtime.gpu=no", "evaluate.batch_size=16"])
    counted = rehearse(config, sized("s", 320, 10), sized("t", 640))
    seconds = {Stretch: 2.0, Pass: 0.5}
    tried = Tried([seconds.get(type(event)) for event in counted.events], memory=10**9, pictured=True)
    found, machines, sizes = tried.given_to(counted), Machines(decoded=1.0), (sized("s", 320, 10), sized("t", 640))
    device = device_tried(config, found.stretches[0])
    assert device.cpu and device.seconds(found.stretches[0].work) == pytest.approx(2.0)
    lines = {line.name: line for line in price_lines(config, machines, sizes, Figures(), found, device)}
    assert lines["pre-training, 1 epoch"].seconds == 10 * 2.0 and lines["training, 2 epochs"].seconds == 2 * 40 * 2.0
    assert lines["extract"].seconds == 640 / 16 * 0.5 and lines["extract"].times == 1
    assert lines["training, 2 epochs"].binds == "tried"
    alone = needed_memory(config, 1, found, device)[0]["worker"]
    more = needed_memory(config, 1, found, device, tried.memory)[0]["worker"]
    shared = needed_memory(config, 2, found, device, tried.memory)[0]["worker"]
    assert alone is not None and alone < more == 10**9
    assert shared is not None and shared > 10**9  # gradients stay in DDP's buckets
    assert needed_memory(config, 1, found, device, 1)[0]["worker"] == alone  # a process whose memory was there before


def test_several_sources_are_counted(packed_pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source, target = map(str, packed_pair)
    tree = SETTINGS | {"source": [source, {"data": target, "identities": [0, 3]}], "target": {"data": target, "also": [source]}}
    found = domains_of(config_from_dict(tree, ["source.balance=true"]), None, None, None, None)
    alone = [open_domain(DomainConfig(place), labelled=True) for place in (source, target)]
    assert found[0].identities == alone[0].identities + 3 and found[0].sets is not None
    assert len(found[1].train) == len(alone[0].train) + len(alone[1].train)
    with pytest.raises(UserError, match=r"gone.arrow: no such packed file to count"):
        domains_of(config_from_dict(tree, ["target=[gone.arrow]"]), None, None, None, None)
    assert domains_of(config_from_dict(tree, ["source.0.data=gone.arrow"]), None, None, None, None)[0].identities == IDENTITIES


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--images", "100", "--gpus", "3"], "cannot be divided among runtime.workers=3"),
        (["--images", "0"], "--images 0 must be at least 1"),
        (["--images", "10", "--decode", "0"], "--decode 0 must be greater than 0"),
        (["--images", "10", "--device", "b9000"], "--device b9000 is unknown: choose one of h100, h200, a100, l4, 4090, or here"),
        (["--images", "10", "adapt.rounds=0", "pretrain.epochs=0"], "trains nothing"),
        ([], "t.arrow: no such packed file to count; give --images"),
        (["--images", "10", "model.backbone=timm/vit"], "timm cannot build it"),
        (["--images", "10", "--bench", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--images", "10", "--bench", __file__], "not figures of a bench"),
    ],
)
def test_mistakes_are_one_line(run: Run, capsys: pytest.CaptureFixture[str], options: list[str], expected: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*options)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line

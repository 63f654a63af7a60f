"""What is rehearsed without data is what a real run computes and keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from distreid import config as configuration
from distreid.config import Config, config_from_dict
from distreid.methods.networks import build_model
from distreid.methods.registry import SPECS, register
from distreid.methods.rehearsal import Labels, Pass, Ranking, Rehearsed, Stretch, rehearse
from distreid.training.counting import convolution_backward_flops
from distreid.training.domains import open_pair
from tests.methods import toy
from tests.training_runs import Silent, edaan_settings, run


def rehearsed(config: Config) -> Rehearsed:
    return rehearse(config, *open_pair(config))


def flops_of_run(config: Config) -> int:
    with counter() as counted:
        run(config, Silent())
    return counted.get_total_flops()


def counter() -> FlopCounterMode:
    """Torch's own, with the gradients of grouped convolutions put right."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: convolution_backward_flops})


@pytest.fixture
def small_config(small_config: Callable[..., Config]) -> Callable[..., Config]:
    """Of a network whose convolutions count for more than what a rehearsal leaves out."""
    return lambda *overrides: small_config("model.backbone=resnet18", *overrides)


def flops(found: Rehearsed) -> float:
    """Of all steps and all passes."""
    trained = sum(stretch.epochs * stretch.steps * stretch.work.flops for stretch in found.stretches)
    return trained + sum(event.work.flops * event.images / event.batch for event in found.events if isinstance(event, Pass))


@pytest.mark.slow
def test_a_run_of_daam(small_config: Callable[..., Config]) -> None:
    """Round 0's work; round 1 finds other clusters than are taken for granted."""
    config = small_config("adapt.rounds=1", "adapt.epochs=1", "pretrain.epochs=1", "input.height=64")
    found = rehearsed(config)
    kinds = [type(event) for event in found.events]
    assert kinds == [Stretch, Pass, Ranking, Pass, Ranking, Pass, Labels, Stretch, Pass, Ranking]
    assert [stretch.title for stretch in found.stretches] == ["pre-training", "training"] and found.channels == 512
    with counter() as probed:
        build_model(config, 12)
    done = flops_of_run(small_config("adapt.rounds=0", "pretrain.epochs=1", "input.height=64")) - probed.get_total_flops()
    assert done == pytest.approx(flops(Rehearsed(found.events[:5], 512)), rel=0.01)


@pytest.mark.slow
def test_a_run_of_edaan(packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    tree = edaan_settings(packed_pair, tmp_path / "run")
    tree["input"] |= {"height": 64, "width": 32}
    config = config_from_dict(tree, ["edaan.pictures_every=0"])
    found = rehearsed(config)
    assert sum(stretch.epochs for stretch in found.stretches) == 3
    assert flops_of_run(config) == pytest.approx(flops(found), rel=0.01)


@pytest.mark.slow
def test_memory_is_what_a_real_step_takes(small_config: Callable[..., Config], tmp_path: Path) -> None:
    """The most that torch's allocator held during a real run's steps, of which the images are a part: within a tenth.

    Kernels take scratch memory of their own, which is not planned, and what the run does beside its steps is small.
    """
    config = small_config(
        "adapt.rounds=0", "pretrain.epochs=1", "input.height=96", "input.width=48", "pretrain.batch_size=32", "adapt.batch_size=32",
        "evaluate.source=false", "evaluate.target=false",
    )  # fmt: skip
    (stretch,) = rehearsed(config).stretches
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run(config, Silent())
    profiled.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    most = max(event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]")
    assert stretch.memory.peak == pytest.approx(most, rel=0.1)


@pytest.mark.slow
def test_workers_share_the_rows_and_none_waits(small_config: Callable[..., Config]) -> None:
    one, four = (
        rehearsed(small_config(f"runtime.workers={n}", "model.batchnorm_group=4", "evaluate.batch_size=4")) for n in (1, 4)
    )
    for alone, shared in zip(one.stretches, four.stretches, strict=True):
        assert (alone.rows, shared.rows, alone.batch, shared.batch) == (16, 4, 16, 16) and alone.epochs == shared.epochs
        assert shared.work.flops == pytest.approx(alone.work.flops / 4, rel=0.02)
        assert alone.memory.weights == shared.memory.weights and alone.memory.states == 2 * alone.memory.gradients + 4 * tensors(
            alone
        )
        assert shared.memory.rest < alone.memory.rest
        assert alone.memory.peak <= alone.memory.weights + alone.memory.states + alone.memory.gradients + alone.memory.rest
    assert not torch.distributed.is_initialized()


def tensors(stretch: Stretch) -> int:
    """AdamW counts its steps once for each weight that it moves, in float32."""
    return round((stretch.memory.states - 2 * stretch.memory.gradients) / 4)


@pytest.mark.slow
def test_memory_grows_evenly_with_the_batch(small_config: Callable[..., Config]) -> None:
    sizes = [[f"{group}.batch_size={batch}" for group in ("pretrain", "adapt")] for batch in (16, 32, 64)]
    small, middle, large = (
        rehearsed(small_config(*size, "adapt.rounds=0", "input.height=64")).stretches[0].memory for size in sizes
    )
    assert large.rest - middle.rest == pytest.approx(2 * (middle.rest - small.rest), rel=0.02)


@pytest.mark.slow
def test_a_run_that_goes_on_from_a_source_model_trains_none(small_config: Callable[..., Config]) -> None:
    found = rehearsed(small_config("pretrain.checkpoint=elsewhere.pt", "adapt.rounds=2"))
    assert [stretch.title for stretch in found.stretches] == ["training"] * 2
    assert found.stretches[0].work is found.stretches[1].work  # rehearsed once


@pytest.fixture
def toys() -> Iterator[None]:
    register(toy.SPEC)
    yield
    del SPECS["toy"], configuration.METHODS["toy"]


def test_a_method_need_say_nothing(toys: None, small_config: Callable[..., Config]) -> None:
    config = small_config()
    config.method = "toy"
    config.groups["toy"] = toy.ToyConfig()
    (stretch,) = rehearsed(config).stretches
    pixels = 15 * 7  # of the first layer's map; its images need no gradient
    stem, branch, head = 8 * 27 * pixels, 8 * 72 * pixels, 8 * 12
    assert stretch.work.flops == 2 * 16 * (2 * stem + 3 * branch + 3 * head) and stretch.epochs == 2

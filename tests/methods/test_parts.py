"""Parts that are no paper's, in whole runs: GeM, neck, mean teacher, triplet term, a BatchNorm for each domain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distreid.actions.embed import embed
from distreid.actions.export import export
from distreid.common.errors import Stopped, UserError
from distreid.config import Config, config_from_dict, to_dict
from distreid.methods.networks import load_model
from distreid.methods.registry import find
from distreid.methods.rehearsal import Pass, rehearse
from distreid.models import EncoderNetwork
from distreid.models.domain_norm import DomainBatchNorm
from distreid.report import write_report
from distreid.training import RunDirectory, load_tensors
from distreid.training.domains import open_pair
from tests.training_runs import Silent, accuracies, edaan_settings, metrics, run, small_settings

Make = Callable[..., Config]
BALANCED = [f"{stage}.{key}" for stage in ("pretrain", "adapt") for key in ("sampler=pk", "instances=2")]
ALL = ["model.pooling=gem", "model.neck=true", "model.teacher=0.9", "model.domain_batchnorm=true", "loss.triplet=0.5", *BALANCED]
STATISTICS = {"daam": ["adapt.batchnorm=batch"], "contrast": ["adapt.batchnorm=target"]}
SHORT = ["pretrain.epochs=1", "adapt.epochs=1", "adapt.batch_size=8", "evaluate.every_round=false"]


@pytest.fixture
def make(packed_pair: tuple[Path, Path], tmp_path: Path) -> Make:
    def named(name: str, method: str, *overrides: str) -> Config:
        return config_from_dict(small_settings(packed_pair, tmp_path / name) | {"method": method}, list(overrides))

    return named


@pytest.fixture(scope="module", params=["daam", "contrast"])
def whole(
    request: pytest.FixtureRequest, packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, dict[str, Any]]:
    tree = small_settings(packed_pair, tmp_path_factory.mktemp(request.param) / "run") | {"method": request.param}
    config = config_from_dict(tree, [*ALL, *STATISTICS[request.param], *SHORT])
    return config, run(config)


def weights(config: Config) -> dict[str, Any]:
    return load_tensors(RunDirectory(config.output).last)["model"]


@pytest.mark.slow
def test_a_run_with_all_parts(whole: tuple[Config, dict[str, Any]], tmp_path: Path) -> None:
    config, result = whole
    assert 0 <= result["direct_transfer"]["mAP"] <= 1 and 0 <= result["final"]["mAP"] <= 1
    lines = [line for line in metrics(config) if line["event"] == "epoch"]
    assert all("triplet" in line["loss"] and np.isfinite(line["loss"]["triplet"]) for line in lines)
    page = write_report(Path(config.output), out=tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Hermans et al. 2017" in page
    model, _, _ = load_model(Path(config.output))
    assert isinstance(model, EncoderNetwork) and model.teacher is not None and model.student().gem is not None
    layers = [module for module in model.modules() if isinstance(module, DomainBatchNorm)]
    assert layers and not any(isinstance(module, nn.BatchNorm1d) for module in model.modules())
    for layer in layers:
        assert layer.matching_on == "target" and not torch.equal(layer.source.running_mean, layer.target.running_mean)


@pytest.mark.slow
def test_what_leaves_is_the_teachers_for_the_target(whole: tuple[Config, dict[str, Any]], tmp_path: Path) -> None:
    exported = pytest.importorskip("safetensors.torch", reason="the extra 'export' is not installed")
    config, _ = whole
    run_folder = Path(config.output)
    export(run_folder, tmp_path / "m.safetensors")
    names = list(exported.load_file(tmp_path / "m.safetensors"))
    assert "teacher.gem.p" in names and "teacher.neck.target.weight" in names
    assert all(name.startswith("teacher.") and ".source." not in name for name in names)
    embed(run_folder, config.target.data, tmp_path / "f.npy", split="query")
    model, _, _ = load_model(run_folder)
    domains = open_pair(config)
    assert domains[1].test is not None and np.isfinite(np.load(tmp_path / "f.npy")).all()
    if config.method == "daam":
        pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
        assert export(run_folder, tmp_path / "m.onnx").channels == model.feature_channels


@pytest.mark.slow
@pytest.mark.parametrize("after", [("pre-training", 3), ("training, round 2 of 2", 1)])
def test_a_run_with_all_parts_continues_to_the_same_bits(
    whole: tuple[Config, dict[str, Any]], make: Make, after: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make("parts", whole[0].method, *ALL, *STATISTICS[whole[0].method], *SHORT)
    monkeypatch.setattr("distreid.training.loop.CHECK_EVERY", 1)
    with pytest.raises(Stopped, match=r"after step \d+ of epoch"):
        run(config, Silent(notice_after=after))
    torch.manual_seed(after[1])
    assert accuracies(run(config, resume=True)) == accuracies(whole[1])
    theirs, ours = weights(whole[0]), weights(config)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_the_source_is_tested_by_its_own_statistics(make: Make) -> None:
    """Pre-training moves the source's alone; then the target begins with them, and two rounds part them."""
    config = make("run", "daam", "model.domain_batchnorm=true", "adapt.rounds=0", *SHORT)
    result, plain = run(config), make("plain", "daam", "adapt.rounds=0", *SHORT)
    assert {key: result[key] for key in ("in_domain", "direct_transfer")} == {
        key: value for key, value in run(plain).items() if key in ("in_domain", "direct_transfer")
    }, "a source model is the same with and without"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["daam", "contrast"])
def test_a_source_model_without_the_parts_serves(make: Make, method: str) -> None:
    first = make("first", method, "adapt.rounds=0", *SHORT)
    run(first)
    parts = ["model.teacher=0.9", "model.domain_batchnorm=true"]
    second = make("second", method, "adapt.rounds=0", f"pretrain.checkpoint={first.output}", *parts)
    before = run(first, resume=True)["direct_transfer"]
    assert run(second)["direct_transfer"] == before
    third = make("third", method, "adapt.rounds=0", f"pretrain.checkpoint={second.output}")
    assert run(third)["direct_transfer"] == before
    if method == "daam":
        more = make("more", method, "adapt.rounds=1", f"pretrain.checkpoint={first.output}", *ALL, *SHORT)
        assert np.isfinite(run(more)["final"]["mAP"])


@pytest.mark.slow
@pytest.mark.parametrize(("method", "parts"), [("daam", []), ("contrast", ["model.domain_batchnorm=true"])])
def test_frozen_rounds_keep_the_source_models_statistics(make: Make, method: str, parts: list[str]) -> None:
    config = make("run", method, "adapt.batchnorm=frozen", "adapt.rounds=1", *parts, *SHORT)
    run(config)
    before, after = load_tensors(RunDirectory(config.output).round_checkpoint(0))["model"], weights(config)
    statistics = [name for name in after if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert statistics and all(torch.equal(before[name], after[name]) for name in statistics)
    assert any(before[name].any() for name in statistics if name.endswith("running_mean")), "pre-training had moved them"
    assert [name for name in after if "bn1." in name and name.endswith("weight") and not torch.equal(before[name], after[name])]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["daam", "contrast"])
def test_the_targets_statistics_are_taken_once(make: Make, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first labels, of the student and of the teacher; a run that dies between them and the labels takes them again."""
    options = ["adapt.batchnorm=target", "model.domain_batchnorm=true", "model.teacher=0.9", *SHORT]
    reference = make("run", method, *options)
    reporter = Silent()
    expected = run(reference, reporter)
    assert reporter.titles.count("statistics of the target") == 1
    before, after = load_tensors(RunDirectory(reference.output).round_checkpoint(0))["model"], weights(reference)
    means = [name for name in after if name.endswith("running_mean") and not torch.equal(before[name], after[name])]
    targets = {name for name in after if name.endswith("target.running_mean")}
    assert targets and targets <= set(means)
    assert all(name.startswith("teacher.") for name in set(means) - targets), "the source keeps its own, which the teacher nears"

    class Dies(Silent):
        def stage(self, title: str, total: int, done: int = 0) -> None:
            super().stage(title, total, done)
            if title == "pseudo-labels":
                raise KeyboardInterrupt

    config = make("dies", method, *options)
    with pytest.raises(KeyboardInterrupt):
        run(config, Dies())
    assert accuracies(run(config, resume=True)) == accuracies(expected)


def test_edaans_head_pools_by_gem(packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    config = config_from_dict(edaan_settings(packed_pair, tmp_path / "run"), ["edaan.variant=direct", "model.pooling=gem"])
    assert np.isfinite(run(config)["final"]["mAP"])
    model, _, _ = load_model(Path(config.output))
    power = model.get_parameter("head.gem.p")
    assert power != 3 and find("edaan").matching(model, "head.gem.p")


@pytest.mark.slow
def test_without_a_source_the_targets_layers_train(make: Make) -> None:
    first = make("first", "contrast", "adapt.rounds=0", "model.domain_batchnorm=true", *SHORT)
    run(first)
    free = ["source.data=", f"pretrain.checkpoint={first.output}", "adapt.rounds=1", "adapt.batch_size=24"]
    second = make("second", "contrast", "model.domain_batchnorm=true", "loss.triplet=1.0", *free, *BALANCED)
    run(second)
    before, after = weights(first), weights(second)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved and not [name for name in moved if ".source." in name]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["daam", "contrast"])
def test_what_plan_rehearses_is_what_a_round_computes(make: Make, method: str) -> None:
    options = ["adapt.rounds=1", "adapt.epochs=1", "pretrain.epochs=0", "input.height=64", "model.last_stride=2"]
    config = make("run", method, *ALL, *options)
    found = rehearse(config, *open_pair(config))
    with FlopCounterMode(display=False) as counter:
        run(config)
    (epoch,) = [line for line in metrics(config) if line["event"] == "epoch"]
    steps = round(epoch["images_per_second"] * epoch["seconds"]) // config.adapt.batch_size
    (stretch,) = found.stretches
    passes = sum(event.work.flops * event.images / event.batch for event in found.events if isinstance(event, Pass))
    assert steps >= 2 and counter.get_total_flops() == pytest.approx(passes + steps * stretch.work.flops, rel=0.02)


@pytest.mark.parametrize(
    ("method", "overrides", "expected"),
    [
        ("edaan", ["model.teacher=0.9"], r"model.teacher=0.9 does not work with method=edaan.*one of daam, contrast"),
        ("edaan", ["model.domain_batchnorm=true"], "model.domain_batchnorm=True does not work with method=edaan"),
        ("edaan", ["adapt.batchnorm=frozen"], "adapt.batchnorm=frozen does not work with method=edaan"),
        ("edaan", ["loss.triplet=1.0"], r"loss.triplet=1.0 does not work with method=edaan"),
        ("daam", ["model.teacher=1.0"], "model.teacher=1.0 must be below 1"),
        ("daam", ["model.pooling=max"], "must be one of mean, gem"),
        ("daam", ["loss.triplet_margin=hard"], "must be soft, or a number of 0 or more"),
        ("daam", ["loss.triplet=1.0"], r"loss.triplet=1.0 needs images of one person side by side: set adapt.sampler=pk"),
        ("daam", ["loss.triplet=1.0", "adapt.sampler=pk"], "needs two people or more, of adapt.instances=4 images each"),
        ("daam", ["loss.triplet=1.0", "adapt.sampler=pk", "adapt.instances=2"], "set pretrain.sampler=pk"),
        (
            "daam",
            ["model.teacher=0.9", "runtime.strategy=deepspeed", "runtime.workers=1"],
            r"model.teacher=0.9 does not work with runtime.strategy=deepspeed",
        ),
        ("contrast", ["contrast.poling=mean"], "unknown key 'contrast.poling'"),
    ],
)
def test_mistakes_are_one_line(make: Make, method: str, overrides: list[str], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        make("run", method, *overrides)


def test_contrasts_old_names_mean_what_they_meant(make: Make, packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert make("run", "contrast").model.pooling == "gem" and make("run", "daam").model.pooling == "mean"
    config = make("run", "contrast", "contrast.pooling=mean", "contrast.teacher=0.9")
    assert (config.model.pooling, config.model.teacher) == ("mean", 0.9)
    tree = small_settings(packed_pair, tmp_path / "run") | {"contrast": {"pooling": "gem", "teacher": 0.5, "temperature": 0.1}}
    assert config_from_dict(tree | {"method": "contrast"}).model.teacher == 0.5
    for other in (tree, tree | {"method": "edaan"}):  # their files held contrast's defaults too
        model = config_from_dict(other, ["contrast.teacher=0.7", "input.pad=0", "input.erase=0.0"]).model
        assert (model.pooling, model.teacher) == ("mean", 0.0)
    tree["model"] |= {"pooling": "mean"}
    with pytest.raises(UserError, match=r"contrast.pooling is model.pooling under its old name: give one of the two"):
        config_from_dict(tree | {"method": "contrast"})


def test_a_run_with_old_names_is_continued_with_its_settings_alone(make: Make) -> None:
    config = make("run", "contrast", "adapt.rounds=0", "model.teacher=0.5", *SHORT)
    run(config)
    old = to_dict(config)
    old["contrast"] |= {"pooling": old["model"].pop("pooling"), "teacher": old["model"].pop("teacher")}
    RunDirectory(config.output).config.write_text(yaml.safe_dump(old))
    run(config, resume=True)
    RunDirectory(config.output).config.write_text(yaml.safe_dump(old))
    with pytest.raises(UserError, match=r"model.teacher: 0.5 -> 0.6"):
        run(make("run", "contrast", "adapt.rounds=0", "model.teacher=0.6", *SHORT), resume=True)

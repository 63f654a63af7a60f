"""contrast in one process: it learns, it can die anywhere, it does without a source, and its batches are balanced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from distreid.actions.export import export
from distreid.common.errors import Stopped, UserError
from distreid.config import Config, config_from_dict
from distreid.methods.contrast.algorithm import Contrast
from distreid.methods.contrast.network import ContrastNet
from distreid.methods.contrast.stages import Adaptation
from distreid.methods.networks import load_model
from distreid.methods.rehearsal import Pass, rehearse
from distreid.report import write_report
from distreid.training import RunDirectory, load_tensors
from distreid.training.domains import open_pair
from tests.training_runs import Silent, accuracies, metrics, run, small_settings

Make = Callable[..., Config]
OPTIONS = ["model.teacher=0.9", "contrast.outliers=classes", "pretrain.epochs=1", "adapt.epochs=1"]


@pytest.fixture
def make(packed_pair: tuple[Path, Path], tmp_path: Path) -> Make:
    def named(name: str, *overrides: str) -> Config:
        return config_from_dict(small_settings(packed_pair, tmp_path / name) | {"method": "contrast"}, list(overrides))

    return named


@pytest.fixture(scope="module")
def whole(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, Any]]:
    tree = small_settings(packed_pair, tmp_path_factory.mktemp("whole") / "run") | {"method": "contrast"}
    config = config_from_dict(tree, OPTIONS)
    return config, run(config)


def weights(config: Config) -> dict[str, Any]:
    return load_tensors(RunDirectory(config.output).last)["model"]


@pytest.mark.slow
def test_what_a_run_leaves(whole: tuple[Config, dict[str, Any]]) -> None:
    config, result = whole
    assert result["method"] == "contrast" and result["final"]["mAP"] == result["rounds"][-1]["mAP"]
    assert [line["round"] for line in result["rounds"]] == [1, 2]
    assert all(set(line["seconds"]) == {"extract", "label", "memory", "train", "evaluate"} for line in result["rounds"])
    lines = [line for line in metrics(config) if line["event"] == "epoch"]
    assert [set(line["loss"]) for line in lines] == [{"source"}] + [{"source", "target"}] * 2
    rates = [line["lr"] for line in lines[1:]]
    assert rates == sorted(rates, reverse=True), "one cosine for all rounds"
    model, _, _ = load_model(Path(config.output))
    assert isinstance(model, ContrastNet) and model.teacher is not None
    assert model.encoder.gem is not None and model.encoder.gem.p != 3 and (model.encoder.neck.bias == 0).all()
    assert not torch.equal(model.teacher.neck.weight, model.encoder.neck.weight)


@pytest.mark.slow
def test_its_network_leaves_as_the_teacher_and_its_report_is_written(whole: tuple[Config, dict[str, Any]], tmp_path: Path) -> None:
    exported = pytest.importorskip("safetensors.torch", reason="the extra 'export' is not installed")
    export(Path(whole[0].output), tmp_path / "m.safetensors")
    names = list(exported.load_file(tmp_path / "m.safetensors"))
    assert "teacher.gem.p" in names and all(name.startswith("teacher.") for name in names)
    page = write_report(Path(whole[0].output), out=tmp_path / "page.html").read_text(encoding="utf-8")
    assert "source images against the classes of the memory" in page and "adapted (final)" in page


@pytest.mark.slow
def test_what_plan_rehearses_is_what_a_round_computes(make: Make) -> None:
    """But for the number of steps: how many images are in clusters is not known before."""
    config = make("run", "adapt.rounds=1", "adapt.epochs=1", "pretrain.epochs=0", "input.height=64", "model.last_stride=2")
    found = rehearse(config, *open_pair(config))
    with FlopCounterMode(display=False) as counter:
        run(config)
    (epoch,) = [line for line in metrics(config) if line["event"] == "epoch"]
    steps = round(epoch["images_per_second"] * epoch["seconds"]) // config.adapt.batch_size
    (stretch,) = found.stretches
    passes = sum(event.work.flops * event.images / event.batch for event in found.events if isinstance(event, Pass))
    assert steps >= 2 and counter.get_total_flops() == pytest.approx(passes + steps * stretch.work.flops, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("after", [("pre-training", 3), ("training, round 2 of 2", 2)])
def test_a_run_given_notice_continues_to_the_same_bits(
    whole: tuple[Config, dict[str, Any]], make: Make, after: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make("parts", *OPTIONS)
    monkeypatch.setattr("distreid.training.loop.CHECK_EVERY", 1)
    with pytest.raises(Stopped, match=r"after step \d+ of epoch"):
        run(config, Silent(notice_after=after))
    torch.manual_seed(after[1])
    assert accuracies(run(config, resume=True)) == accuracies(whole[1])
    theirs, ours = weights(whole[0]), weights(config)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.slow
def test_a_run_that_died_after_labelling_or_between_rounds_continues_to_the_same_bits(
    whole: tuple[Config, dict[str, Any]], make: Make
) -> None:
    """Where no memory is in the checkpoint it is made again; the optimiser goes on all the same."""
    config = make("parts", *OPTIONS)
    for dies_at, times in (("pseudo-labels", 2), ("features of the source", 1)):

        class Dies(Silent):
            at = [dies_at] * times

            def stage(self, title: str, total: int, done: int = 0) -> None:
                super().stage(title, total, done)
                if [one for one in self.titles if one == title] == self.at:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(config, Dies(), resume=RunDirectory(config.output).last.exists())
    assert accuracies(run(config, resume=True)) == accuracies(whole[1])
    assert all(torch.equal(weights(config)[name], value) for name, value in weights(whole[0]).items())


@pytest.fixture
def stage_of(make: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Adaptation]:
    """Makes the stage that a run's only round would train."""
    seen: list[Adaptation] = []

    def keep(self: Contrast, stage: Any) -> None:
        seen.append(stage)

    def made(*overrides: str) -> Adaptation:
        monkeypatch.setattr(Contrast, "train", keep)
        run(make("run", "adapt.rounds=1", "pretrain.epochs=0", "evaluate.target=false", *overrides))
        return seen.pop()

    return made


@pytest.mark.parametrize("against", ["domain", "all"])
def test_an_image_is_told_from_the_classes_of_its_domain_or_from_all(stage_of: Callable[..., Adaptation], against: str) -> None:
    stage = stage_of(f"contrast.against={against}", "model.pooling=mean")
    memory_KD, identities = stage._memory_KD, stage._rows["source"].stop or 12
    assert len(memory_KD) > identities == 12
    f_BD = torch.nn.functional.normalize(torch.randn(4, memory_KD.shape[1]), dim=1)
    class_B, own = torch.tensor([3, 12, 14, 0]), {"source": range(12), "target": range(12, len(memory_KD))}
    for side, images in (("source", [0, 3]), ("target", [1, 2])):
        powers_BK = (f_BD @ memory_KD.T / 0.05).double().exp()
        rivals = list(own[side] if against == "domain" else range(len(memory_KD)))
        slow = [-(powers_BK[b, class_B[b]] / powers_BK[b, rivals].sum()).log() for b in images]
        found = stage.told_apart(f_BD, class_B, torch.tensor(images), stage._rows[side])
        assert found.item() == pytest.approx(sum(slow).item() / 4, rel=1e-4)


def test_every_batch_is_balanced_and_every_identity_is_seen(stage_of: Callable[..., Adaptation]) -> None:
    stage = stage_of("adapt.sampler=pk", "adapt.instances=4")
    plan = stage.plan(0)
    rows = stage._classes_SB
    for domain_B, row_B in zip(plan.domain_SB, rows, strict=True):
        for domain in (0, 1):
            bunches = row_B[domain_B == domain].reshape(-1, 4)
            assert (bunches == bunches[:, :1]).all() and len(bunches) == 2
    assert set(rows[plan.domain_SB == 1]) == set(stage._classes_I[stage._first_target :][stage._used])
    np.testing.assert_array_equal(stage.plan(0).index_SB, plan.index_SB)
    assert not np.array_equal(stage.plan(1).index_SB, plan.index_SB)


def test_without_a_source_from_anothers_model(whole: tuple[Config, dict[str, Any]], make: Make) -> None:
    config = make("free", "source.data=", f"pretrain.checkpoint={whole[0].output}", "adapt.rounds=1", "adapt.batch_size=24")
    result = run(config)
    assert result["source"] == "no source" and "in_domain" not in result
    assert result["direct_transfer"]["mAP"] > 0 and 0 <= result["final"]["mAP"] <= 1
    (labels,) = [line for line in metrics(config) if line["event"] == "labels"]
    assert labels["clusters"] >= 2
    assert all(set(line["loss"]) == {"target"} for line in metrics(config) if line["event"] == "epoch")
    model, _, _ = load_model(Path(config.output))
    assert isinstance(model, ContrastNet) and model.teacher is None


def test_a_teacher_that_a_source_model_lacks_begins_as_its_encoder(make: Make) -> None:
    first = make("first", "adapt.rounds=0", "pretrain.epochs=1")
    run(first)
    second = make("second", "adapt.rounds=0", f"pretrain.checkpoint={first.output}", "model.teacher=0.9")
    assert run(second)["direct_transfer"] == run(first, resume=True)["direct_transfer"]


@pytest.mark.slow
def test_daam_and_contrast_take_each_others_source_models(make: Make) -> None:
    """An encoder is an encoder: classifiers, which the other has too many or too few of, are no part of direct transfer."""
    plain = ["model.attention=none", "model.domain_branch=false", "model.neck=true", "model.pooling=gem", "pretrain.epochs=1"]
    short = ["adapt.rounds=1", "adapt.epochs=1", "adapt.batch_size=16", "model.pooling=gem"]
    first = make("daam", "method=daam", "adapt.rounds=0", *plain)
    direct = run(first)["direct_transfer"]
    second = make("contrast", *short, f"pretrain.checkpoint={first.output}")
    assert run(second)["direct_transfer"] == direct
    third = make("back", "method=daam", *plain, *short, f"pretrain.checkpoint={second.output}")
    assert run(third)["direct_transfer"] == direct
    free = make("free", "source.data=", "adapt.rounds=0", "model.pooling=gem", f"pretrain.checkpoint={first.output}")
    assert run(free)["direct_transfer"] == direct
    attended = make("attended", "method=daam", "adapt.rounds=0", "pretrain.epochs=0", "model.pooling=gem", "model.neck=true")
    run(attended)
    with pytest.raises(UserError, match="attention"):  # without its attention it would be another model
        run(make("lost", "model.pooling=gem", f"pretrain.checkpoint={attended.output}"))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("source.data=", "source.data is empty.*set pretrain.checkpoint or model.weights"),
        ("model.teacher=1.0", "model.teacher=1.0 must be below 1"),
        ("contrast.temprature=1", "did you mean 'contrast.temperature'"),
        ("contrast.outliers=keep", "must be one of drop, classes"),
        ("contrast.against=source", "must be one of domain, all"),
        ("adapt.instances=3", r"adapt.instances=3 does not divide"),
    ],
)
def test_mistakes_are_one_line(make: Make, override: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        make("run", "adapt.sampler=pk", override)
    with pytest.raises(UserError, match=r"model.teacher=0.9 does not work with runtime.strategy=deepspeed"):
        make("run", "model.teacher=0.9", "runtime.strategy=deepspeed", "runtime.workers=1")


def test_a_method_fills_in_what_a_file_leaves_out(packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    tree: dict[str, Any] = {"output": "o", "source": {"data": "s"}, "target": {"data": "t"}}
    config = config_from_dict(tree | {"method": "contrast", "adapt": {"epochs": 3}})
    assert (config.adapt.rounds, config.adapt.epochs, config.adapt.sampler) == (50, 3, "pk")
    assert config.adapt.optimizer.lr_backbone == 3.5e-4 and "adapt" not in tree
    with pytest.raises(UserError, match="adapt is a group of keys"):
        config_from_dict(tree | {"method": "contrast", "adapt": 3})
    with pytest.raises(UserError, match=r"source\.data is not set"):
        config_from_dict(tree | {"source": {}})

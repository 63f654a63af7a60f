"""Algorithm 1 in one process: what it writes, that it can die anywhere, and what it says when it cannot go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distreid.common.errors import Stopped, UserError
from distreid.config import Config
from distreid.methods.networks import load_model
from distreid.training import RunDirectory, load_tensors
from tests.training_runs import Silent, accuracies, metrics, run

Make = Callable[..., Config]


@pytest.fixture(scope="module")
def undisturbed(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, Any], int]:
    from distreid.config import config_from_dict
    from tests.training_runs import small_settings

    config = config_from_dict(small_settings(packed_pair, tmp_path_factory.mktemp("undisturbed") / "run"))
    reporter = Silent()
    return config, run(config, reporter), reporter.calls


@pytest.mark.slow
def test_the_run_directory_holds_what_is_promised(undisturbed: tuple[Config, dict[str, Any], int]) -> None:
    config, result, _ = undisturbed
    directory = RunDirectory(config.output)
    assert json.loads(directory.result.read_text()) == result
    assert set(result) == {"method", "source", "target", "seed", "in_domain", "direct_transfer", "rounds", "final"}
    assert result["final"] == {key: result["rounds"][-1][key] for key in ("mAP", "rank1", "rank5", "rank10")}
    for number, line in enumerate(result["rounds"], 1):
        assert line["round"] == number and line["clusters"] >= 2 and 0 < line["eps"] < 1 and 0 <= line["mAP"] <= 1
        assert set(line["seconds"]) == {"extract", "label", "train", "evaluate"}
    names = sorted(path.name for path in directory.checkpoints.iterdir())
    assert names == ["last.pt", "round-00.pt", "round-01.pt", "round-02.pt"]
    events = [(line["event"], line["round"], line.get("epoch")) for line in metrics(config)]
    assert events == [
        ("epoch", 0, 1), ("epoch", 0, 2), ("round", 0, None),
        ("labels", 1, None), ("epoch", 1, 1), ("epoch", 1, 2), ("round", 1, None),
        ("labels", 2, None), ("epoch", 2, 1), ("epoch", 2, 2), ("round", 2, None),
    ]  # fmt: skip
    losses = [set(line["loss"]) for line in metrics(config) if line["event"] == "epoch"]
    assert losses == [{"source"}] * 2 + [{"source", "target", "domain"}] * 4


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_does_not(
    undisturbed: tuple[Config, dict[str, Any], int], small_config: Make
) -> None:
    assert accuracies(run(small_config())) == accuracies(undisturbed[1])
    other = small_config("seed=1", "adapt.rounds=0", output=Path(small_config().output).with_name("other"))
    assert run(other)["direct_transfer"] != undisturbed[1]["direct_transfer"]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3, 0.45, 0.6, 0.8, 0.97])
def test_a_run_stopped_anywhere_continues_to_the_same_bits(
    undisturbed: tuple[Config, dict[str, Any], int], small_config: Make, share: float
) -> None:
    reference, result, calls = undisturbed
    config = small_config()
    with pytest.raises(KeyboardInterrupt):
        run(config, Silent(stop_at=max(1, int(share * calls))))
    assert accuracies(run(config, resume=True)) == accuracies(result)
    ours = load_tensors(RunDirectory(config.output).last)
    theirs = load_tensors(RunDirectory(reference.output).last)
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
    without_time = [{k: v for k, v in line.items() if k in ("event", "round", "epoch", "loss", "lr")} for line in metrics(config)]
    assert without_time == [
        {k: v for k, v in line.items() if k in ("event", "round", "epoch", "loss", "lr")} for line in metrics(reference)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("after", [("pre-training", 2), ("pre-training", 6), ("training, round 2 of 2", 1)])
def test_a_run_given_notice_stops_within_an_epoch_and_continues_to_the_same_bits(
    undisturbed: tuple[Config, dict[str, Any], int], small_config: Make, after: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, result, _ = undisturbed
    config = small_config()
    monkeypatch.setattr("distreid.training.loop.CHECK_EVERY", 1)
    with pytest.raises(Stopped, match=r"stopped as asked, after step \d+ of epoch \d"):
        run(config, Silent(notice_after=after))
    saved = load_tensors(RunDirectory(config.output).last)
    assert saved["state"]["step"] > 0
    assert accuracies(run(config, resume=True)) == accuracies(result)
    ours, theirs = (load_tensors(RunDirectory(c.output).last)["model"] for c in (config, reference))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.slow
def test_a_run_whose_node_is_about_to_go_saves_within_the_epoch_and_goes_on(
    undisturbed: tuple[Config, dict[str, Any], int], small_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, result, calls = undisturbed
    monkeypatch.setattr("distreid.training.loop.CHECK_EVERY", 2)

    class Leaving(Silent):
        def leaving(self) -> bool:
            return True

    config = small_config()
    with pytest.raises(KeyboardInterrupt):
        run(config, Leaving(stop_at=calls - 6))
    saved = load_tensors(RunDirectory(config.output).last)
    assert saved["state"]["round"] == 2 and saved["state"]["step"] > 0
    assert accuracies(run(config, Leaving(), resume=True)) == accuracies(result)
    ours, theirs = (load_tensors(RunDirectory(c.output).last)["model"] for c in (config, reference))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.slow
def test_more_rounds_continue_a_finished_run(undisturbed: tuple[Config, dict[str, Any], int], small_config: Make) -> None:
    config = small_config("adapt.rounds=1")
    first = run(config)
    config.adapt.rounds = 2
    second = run(config, resume=True)
    assert accuracies(second)["rounds"][:1] == accuracies(first)["rounds"]
    assert accuracies(second) == accuracies(undisturbed[1])


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss.target=hard", "model.attention=none", "model.domain_branch=false"],
        ["loss.target=lsr", "model.attention=individual"],
        ["loss.normalize=true", "labels.features=raw", "model.attention=none"],
        ["pretrain.sampler=pk", "adapt.sampler=pk", "adapt.instances=2", "model.domain_branch=false", "labels.eps=first_round"],
        [
            "model.neck=true",
            "runtime.precision=bf16",
            "runtime.channels_last=true",
            "evaluate.flip=true",
            "runtime.feature_dtype=float16",
            "evaluate.every_round=false",
        ],
    ],
)
@pytest.mark.slow
def test_every_variant_runs(small_config: Make, overrides: list[str]) -> None:
    result = run(small_config("pretrain.epochs=1", "adapt.epochs=1", *overrides))
    assert np.isfinite(result["final"]["mAP"])
    if "labels.eps=first_round" in overrides:
        assert result["rounds"][0]["eps"] == result["rounds"][1]["eps"]
    if "evaluate.every_round=false" in overrides:
        assert "mAP" not in result["rounds"][0]


@pytest.mark.slow
def test_pretrained_weights_are_taken_from_another_run(undisturbed: tuple[Config, dict[str, Any], int], small_config: Make) -> None:
    reporter = Silent()
    result = run(small_config(f"pretrain.checkpoint={undisturbed[0].output}"), reporter)
    assert not any("pre-training" in title for title in reporter.titles)
    assert accuracies(result) == accuracies(undisturbed[1])


@pytest.mark.slow
@pytest.mark.parametrize("variant", [["model.domain_branch=false"], ["model.attention=individual"]])
def test_a_source_model_may_be_of_a_network_without_what_it_does_not_train(
    undisturbed: tuple[Config, dict[str, Any], int], small_config: Make, variant: list[str], tmp_path: Path
) -> None:
    """And with it: what one lacks begins as it would without a checkpoint, what it has too much is left out."""
    short = ["adapt.rounds=1", "adapt.epochs=1"]
    there = run(small_config(f"pretrain.checkpoint={undisturbed[0].output}", *short, *variant))
    assert there["direct_transfer"]["mAP"] == undisturbed[1]["direct_transfer"]["mAP"]
    other = small_config("adapt.rounds=0", *variant, f"output={tmp_path / 'other'}")
    direct = run(other)["direct_transfer"]["mAP"]
    back = run(small_config(f"pretrain.checkpoint={other.output}", *short, f"output={tmp_path / 'back'}"))
    assert back["direct_transfer"]["mAP"] == direct and np.isfinite(back["final"]["mAP"])


@pytest.mark.slow
def test_a_target_without_a_test_set_is_adapted_all_the_same(small_config: Make, tmp_path: Path) -> None:
    """A folder of unlabelled crops: no identities, no cameras, no accuracy."""
    from distreid.data import ImageStore, pack, select

    config = small_config("adapt.rounds=1", "adapt.epochs=1", "pretrain.epochs=1")
    store = ImageStore.open(config.target.data)
    (tmp_path / "crops" / "deep").mkdir(parents=True)
    for row in select(store).train.rows:
        store.decode(row).save(tmp_path / "crops" / "deep" / f"{row}.png")
    pack(tmp_path / "crops", tmp_path / "crops.arrow", format="folder")
    config.target.data = str(tmp_path / "crops.arrow")
    result = run(config)
    assert result["final"] is None and "direct_transfer" not in result and result["rounds"][0]["clusters"] >= 2


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["pretrain.optimizer.lr_backbone=1e30", "pretrain.optimizer.lr_new=1e30"],
            "pre-training.*not finite.*lower pretrain.optimizer",
        ),
        (
            ["adapt.optimizer.lr_backbone=1e30", "adapt.optimizer.lr_new=1e30"],
            "round 1, epoch .*lower adapt.optimizer.*pretrain.checkpoint=",
        ),
        (
            ["labels.eps=fixed", "labels.eps_value=0.00001", "labels.min_samples=50"],
            "round 1: no cluster .*larger labels.eps_value.*round-00.pt",
        ),
        (["labels.eps=fixed", "labels.eps_value=0.99999"], "round 1: a single cluster .*smaller labels.eps_value"),
        (["labels.k1=5000"], "k1"),
    ],
)
def test_what_stops_a_run_is_one_line_and_the_directory_stays_usable(
    small_config: Make, overrides: list[str], expected: str
) -> None:
    config = small_config("pretrain.epochs=1", "adapt.epochs=3", *overrides)
    with pytest.raises(UserError, match=expected) as caught:
        run(config)
    assert "\n" not in str(caught.value)
    directory = RunDirectory(config.output)
    if directory.last.exists():
        model, _, _ = load_model(directory.last)
        assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    else:
        assert "pretrain" in expected


def test_changed_data_are_noticed_on_resume(small_config: Make, packed_pair: tuple[Path, Path]) -> None:
    config = small_config("adapt.rounds=0")
    run(config)
    config.target.data = str(packed_pair[0])
    with pytest.raises(UserError, match=r"target.data|data have changed"):
        run(config, resume=True)


def test_selection_that_leaves_one_identity_is_refused(small_config: Make) -> None:
    config = small_config("source.identities=[0, 1]")
    with pytest.raises(UserError, match="identity"):
        run(config)

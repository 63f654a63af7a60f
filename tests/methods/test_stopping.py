"""`adapt.stop: auto`: the rule on sequences that are written down, and runs that it ends, that die in it, and that go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distreid.actions.status import status, status_record
from distreid.common.errors import UserError
from distreid.common.layout import kept_name, model_files, model_round
from distreid.config import Config, config_from_dict, to_dict, to_yaml
from distreid.methods import labelling, stopping
from distreid.methods.daam.algorithm import DAAM
from distreid.methods.networks import kept_checkpoint, load_model
from distreid.methods.rehearsal import Labels, rehearse
from distreid.methods.stopping import Judged, judge, judged, replay, would_keep
from distreid.report import write_report
from distreid.training import ProcessGroup, RunDirectory, load_tensors
from distreid.training.context import Context
from distreid.training.domains import open_pair
from distreid.training.in_process import LocalLabeler
from tests.commands import fails
from tests.processes import Shared, on_ranks
from tests.training_runs import Silent, accuracies, edaan_settings, metrics, run, small_settings

Make = Callable[..., Config]


def models(*qualities: float, agreements: dict[int, float] | None = None) -> list[Judged]:
    """All images but a fifth in clusters, the same ones."""
    found = agreements or {}
    return [
        Judged(at, quality, 0.8, found.get(at, 0.7 if at else None), 0.8 if at else None) for at, quality in enumerate(qualities)
    ]


@pytest.mark.parametrize(
    ("qualities", "kept", "ends"),
    [
        ((0.2,), 0, False),  # the source model alone
        ((0.2, 0.3, 0.35, 0.36), 3, False),  # still better
        ((0.2186, 0.2296, 0.2447, 0.2272), 3, False),  # a real run whose accuracy did not fall: 7 % is noise
        ((0.2, 0.3, 0.4, 0.35), 2, True),
        ((0.2, 0.4, 0.37, 0.35), 2, True),  # the last stable one, not the best one
        ((0.4, 0.3), 0, True),  # the source model was better
        ((0.4, 0.37, 0.34), 1, True),  # a slow fall counts from the best
        ((0.2, 0.3, 0.0), 1, True),  # no clusters any more
        ((-0.1, -0.1), 1, False),  # bad labels, no worse than they were
        ((-0.1, -0.105), 1, False),
        ((-0.1, -0.2), 0, True),
        ((0.0, 0.0), 1, False),
    ],
)
def test_the_rule_on_qualities(qualities: tuple[float, ...], kept: int, ends: bool) -> None:
    verdict = judge(models(*qualities))
    assert (verdict.kept, bool(verdict.reason)) == (kept, ends)


def test_labels_that_were_taught_end_the_rounds_and_their_model_is_kept() -> None:
    assert not judge(models(0.3, 0.4, 0.4, agreements={2: 0.979})).reason
    verdict = judge(models(0.3, 0.4, 0.4, agreements={2: 0.98}))
    assert verdict.kept == 2 and "taught" in verdict.reason
    first, second, third = models(0.3, 0.4, 0.4, agreements={2: 1.0})
    for changed in ([first, second, replace(third, clustered=0.9)], [first, replace(second, clustered=0.9), third]):
        assert not judge(changed).reason, "clusters still take in images, or lose them"
    assert judge(models(0.3, 0.4, 0.2, agreements={2: 0.99})).kept == 1, "the same labels of a worse model are no good sign"


def test_a_finished_run_is_judged_as_it_would_have_been_ended() -> None:
    """The first end counts, whatever came after it; and without one the last round, which nothing judged, is kept."""
    fallen = models(0.2, 0.4, 0.3, 0.6)
    assert replay(fallen) == judge(fallen[:3]) and would_keep(fallen, 4) == 1
    assert would_keep(models(0.2, 0.3, 0.4), 3) == 3
    assert would_keep([], 2) == 2 and would_keep([], 0) == 0


def test_models_are_read_from_the_events_of_any_run() -> None:
    def line(number: int, silhouette: float, **more: Any) -> dict[str, Any]:
        return {"event": "labels", "round": number, "outliers": 25, "quality": {"silhouette": silhouette}, **more}

    lines = [
        {"event": "round", "round": 0},
        line(1, 0.4),
        {"event": "epoch", "round": 1},
        line(2, 0.8, agreement={"adjusted_rand": 0.5, "clustered_in_both": 1.0}),
        {**line(3, 0.2), "event": "judged"},
        {"event": "labels", "round": 4, "outliers": 1},  # a version that kept no quality
    ]
    found = judged(lines, 100)
    assert [(one.round, one.clustered, one.agreement, one.in_both) for one in found] == [
        (0, 0.75, None, None),
        (1, 0.75, 0.5, 1.0),
        (2, 0.75, None, None),
    ]
    np.testing.assert_allclose([one.quality for one in found], [0.3, 0.6, 0.15])


def test_which_checkpoint_counts() -> None:
    rounds = ["round-00.pt", "round-01.pt", "round-02.pt"]
    assert model_round(["last.pt"]) is None and model_round([*rounds, "last.pt"]) == 2
    assert model_round([*rounds, kept_name(1, 2)]) == 1
    assert model_round([*rounds, "round-03.pt", kept_name(1, 2)]) == 3, "the run has gone on"
    assert model_round([*rounds, kept_name(0, 1), kept_name(1, 2)]) == 1
    assert model_round(["round-01.pt", kept_name(1, 2)]) == 1, "a copy that was fetched holds the kept one alone"
    assert model_round(["round-99.pt", "round-100.pt", kept_name(99, 100)]) == 99
    names = [f"checkpoints/{name}" for name in (*rounds, kept_name(1, 2), "last.pt")]
    assert set(model_files([*names, "result.json"])) == {"result.json", "checkpoints/round-01.pt", "checkpoints/kept-01-of-02"}


AUTO = ["adapt.stop=auto", "adapt.rounds=3", "adapt.epochs=1", "pretrain.epochs=1"]


Fits = Callable[..., None]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    """Sets what the silhouettes of the rounds' labels come out as, from round 1 on: a run of seconds does not go wrong when
    it should. All else about the labels is as they are."""
    make = labelling.Labelling.make

    def set_to(*silhouettes: float) -> None:
        def made(self: labelling.Labelling) -> Any:
            labels, seconds = make(self)
            labels.figures["quality"]["silhouette"] = silhouettes[self._state.round - 1]
            return labels, seconds

        monkeypatch.setattr(labelling.Labelling, "make", made)
        monkeypatch.setattr(stopping, "SETTLED", 2.0)  # a few clusters of a few persons agree all too soon

    return set_to


@pytest.mark.slow
@pytest.mark.parametrize("method", ["daam", "contrast"])
def test_a_run_that_goes_wrong_ends_and_its_last_stable_model_is_kept(
    packed_pair: tuple[Path, Path], tmp_path: Path, fits: Fits, method: str
) -> None:
    """What is kept has the accuracy that the result says, and everybody who opens the run opens it."""
    fits(0.1, 0.9, 0.01)
    config = config_from_dict(small_settings(packed_pair, tmp_path / "run") | {"method": method}, AUTO)
    reporter = Silent()
    result = run(config, reporter)
    directory = RunDirectory(config.output)
    told = result["stopping"]
    assert [line["round"] for line in result["rounds"]] == [1, 2], (
        "labels of round 3 judged round 2's model, and were not trained with"
    )
    assert told["kept"] == 1 and "fit worse" in told["reason"]
    assert [one["round"] for one in told["models"]] == [0, 1, 2] and json.loads(directory.result.read_text()) == result
    assert result["final"] == {key: result["rounds"][0][key] for key in result["final"]} and result["final"]["mAP"] > 0
    assert any("ended after round 2 of 3" in note and "kept: the model of round 1" in note for note in reporter.notes)
    assert [line["round"] for line in metrics(config) if line["event"] == "judged"] == [3]
    # All of the run's models are still there, and the kept one is opened.
    assert kept_checkpoint(directory.path) == directory.round_checkpoint(1) and directory.round_checkpoint(2).exists()
    opened = load_model(directory.path)[0].state_dict()
    assert all(torch.equal(opened[name], value) for name, value in load_tensors(directory.round_checkpoint(1))["model"].items())
    for text in (status(config.output), write_report(directory.path).read_text()):
        assert "adapt.stop=auto: its labels fit worse" in text and "kept: the model of round 1" in text
    assert "adapted (final): the model of round 1" in status(config.output)
    record = status_record(config.output)
    assert record["kept"] == record["would_keep"] == 1 and record["stop"] == "auto"
    assert record["models"] == told["models"] and record["final"] == result["final"]
    # To resume it is no reason to go on, with more rounds or without.
    config.adapt.rounds = 5
    again = Silent()
    assert run(config, again, resume=True) == result and not any("training" in title for title in again.titles)


@pytest.mark.slow
def test_a_run_that_goes_well_has_the_bits_of_one_without_a_rule(small_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last model is judged by one labelling more, and the result is otherwise the same."""
    plain = small_config(
        "adapt.rounds=1", "adapt.epochs=1", "pretrain.epochs=1", output=Path(small_config().output).with_name("never")
    )
    monkeypatch.setattr(stopping, "SETTLED", 2.0)
    never, watched = run(plain), small_config(*AUTO, "adapt.rounds=1")
    result = run(watched)
    told = result.pop("stopping")
    assert accuracies(result) == accuracies(never)
    assert not told["reason"] and told["kept"] == 1 and len(told["models"]) == 2
    assert "stopping" not in never and not any(line["event"] == "judged" for line in metrics(plain))
    ours, theirs = (load_tensors(RunDirectory(config.output).last)["model"] for config in (watched, plain))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    # What the run without a rule says of its models is what this one saw, as far as it was labelled.
    assert status_record(plain.output)["models"] == told["models"][:1] and status_record(plain.output)["would_keep"] == 1


@pytest.mark.slow
def test_a_finished_run_with_more_rounds_is_the_longer_run(small_config: Make) -> None:
    longer = small_config(*AUTO, "adapt.rounds=2", output=Path(small_config().output).with_name("longer"))
    expected, config = run(longer), small_config(*AUTO, "adapt.rounds=1")
    run(config)
    config.adapt.rounds = 2
    assert accuracies(run(config, resume=True)) == accuracies(expected)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["labels are made", "before the result"])
def test_a_run_killed_while_it_is_judged_comes_to_the_same_end(
    small_config: Make, fits: Fits, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    fits(0.1, 0.9, 0.01)
    reference = small_config(*AUTO, output=Path(small_config().output).with_name("reference"))
    expected, config = run(reference), small_config(*AUTO)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if when == "labels are made":
            judge_all = labelling.judge
            patch.setattr(labelling, "judge", lambda seen: killed() if len(seen) == 3 else judge_all(seen))
        else:
            patch.setattr(RunDirectory, "write_result", killed)
        run(config)
    assert not RunDirectory(config.output).result.exists()
    reporter = Silent()
    assert accuracies(run(config, reporter, resume=True)) == accuracies(expected)
    assert ("pseudo-labels" in reporter.titles) == (when == "labels are made"), "a decision on disk is not made again"
    assert [line["event"] for line in metrics(config)] == [line["event"] for line in metrics(reference)]


def judged_on(rank: int, world: int, options: dict[str, Any]) -> dict[str, Any]:
    """One process's part of a run whose second round goes wrong; what it says of the end."""
    make = labelling.Labelling.make

    def made(self: labelling.Labelling) -> Any:
        labels, seconds = make(self)
        labels.figures["quality"]["silhouette"] = (0.1, 0.9, 0.01)[self._state.round - 1]
        return labels, seconds

    labelling.Labelling.make = made  # type: ignore[method-assign]  # of this process alone
    stopping.SETTLED = 2.0
    config = config_from_dict(options)
    source, target = (replace(domain, test=None) for domain in open_pair(config))
    shared = Shared(LocalLabeler(config.labels, torch.device("cpu")), world)
    context = Context(config, ProcessGroup(rank, world), source, target, shared, shared, RunDirectory(config.output), Silent())
    return dict(DAAM(context).run()["stopping"])


@pytest.mark.slow
def test_all_processes_end_alike(packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    options = small_settings(packed_pair, tmp_path / "run")
    options["model"]["batchnorm_group"] = 4
    config = config_from_dict(options, AUTO)
    RunDirectory(config.output).create(to_yaml(config), resume=False)
    first, second = on_ranks(2, judged_on, to_dict(config))
    assert first == second and first["kept"] == 1 and len(first["models"]) == 3
    assert json.loads(RunDirectory(config.output).result.read_text())["stopping"] == first
    assert kept_checkpoint(Path(config.output)).name == "round-01.pt"


@pytest.mark.slow
def test_a_plan_counts_the_last_labelling(small_config: Make) -> None:
    config = small_config(*AUTO)
    asked = [event for event in rehearse(config, *open_pair(config)).events if isinstance(event, Labels)]
    assert len(asked) == 4


def test_labels_without_clusters_end_an_adapted_run_in_place_of_failing_it(
    small_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(*AUTO)
    make = labelling.Labelling.make

    def collapsed(self: labelling.Labelling) -> Any:
        labels, seconds = make(self)
        if self._state.round == 2:
            pseudo = labels.pseudo
            pseudo.labels[:] = -1
            nothing = type(pseudo)(pseudo.labels, pseudo.centers[:0], pseudo.eps)
            labels = type(labels)(nothing, labels.features_ND, {"quality": {"silhouette": 0.0}})
        return labels, seconds

    monkeypatch.setattr(labelling.Labelling, "make", collapsed)
    result = run(config)
    assert result["stopping"]["kept"] == 0 and len(result["rounds"]) == 1 and result["stopping"]["models"][1]["quality"] == 0


def test_what_cannot_be_asked_for_is_one_line(
    packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"adapt\.stop=auto goes by rounds of labelling, and method=edaan has none"):
        config_from_dict(edaan_settings(packed_pair, tmp_path / "run"), ["adapt.stop=auto"])
    never_measured = ["adapt.stop=auto", "evaluate.every_round=false"]
    with pytest.raises(UserError, match=r"set evaluate\.every_round=true, or evaluate\.target=false"):
        config_from_dict(small_settings(packed_pair, tmp_path / "run"), never_measured)
    config_from_dict(small_settings(packed_pair, tmp_path / "run"), [*never_measured, "evaluate.target=false"])
    assert "holds no config.yaml" in fails(capsys, "status", str(tmp_path), "--json")

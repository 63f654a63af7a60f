"""A sweep file as a user writes it: which trials it makes, which share a source model, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distreid.common.errors import UserError
from distreid.sweeps.plan import Plan, points, pretraining, read_plan, shared_pretraining
from tests.training_runs import small_settings


def plan_of(folder: Path, search: dict[str, Any], *overrides: str, **more: Any) -> Plan:
    (folder / "base.yaml").write_text(yaml.safe_dump(small_settings((folder / "s.arrow", folder / "t.arrow"), folder / "run")))
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump({"base": "base.yaml", "output": str(folder / "out"), "search": search} | more))
    return read_plan(file, lambda seed: {}, list(overrides))


def test_the_grid_and_the_draws() -> None:
    search = {"a": {"grid": [1, 2]}, "b": {"loguniform": [1e-4, 1e-1]}, "c": {"choice": ["x", "y"]}, "d": {"grid": [5, 6, 7]}}
    found = points(search, 4, seed=3)
    assert found == points(search, 4, seed=3) and found != points(search, 4, seed=4)
    assert len(found) == 2 * 3 * 4 and {(point["a"], point["d"]) for point in found} == {(a, d) for a in (1, 2) for d in (5, 6, 7)}
    assert all(1e-4 <= point["b"] <= 1e-1 and point["c"] in "xy" for point in found) and list(found[0]) == list(search)
    assert min(point["b"] for point in found) < 1e-2, "uniform in the logarithm"
    assert len(points({"a": {"grid": [1, 2]}}, 4, seed=0)) == 2, "nothing to draw"


def test_a_trial_is_the_base_and_its_settings(tmp_path: Path) -> None:
    search = {"labels.p": {"grid": [0.02, 0.03]}, "seed": {"grid": [0, 1]}}
    plan = plan_of(tmp_path, search, "adapt.epochs=7", "concurrency=2", set={"adapt.rounds": 3})
    configs = [plan.config(trial) for trial in plan.trials]
    assert [(config.labels.p, config.seed) for config in configs] == [(0.02, 0), (0.02, 1), (0.03, 0), (0.03, 1)]
    assert {(config.adapt.rounds, config.adapt.epochs, config.labels.k1) for config in configs} == {
        (3, 7, 8)
    } and plan.concurrency == 2
    assert len({config.output for config in configs}) == 4
    written = plan_of(tmp_path, {"labels.p": {"grid": ["2e-2", "3e-2"]}})  # YAML reads 2e-2 as text
    assert [trial.settings for trial in written.trials] == [{"labels.p": 0.02}, {"labels.p": 0.03}]
    assert plan_of(tmp_path, search).trials == plan.trials, "names do not depend on what else is set"


@pytest.mark.parametrize(
    "others",
    [
        {"seed": [0], "labels.p": [1, 0.001], "runtime.gpu": ["no"], "model.neck": [True]},
        {"model.neck": [True], "runtime.gpu": [False], "labels.p": [1.0, "1e-3"], "seed": [0]},
    ],
)
def test_equal_settings_are_one_trial(tmp_path: Path, others: dict[str, Any]) -> None:
    """In any order and spelling; also where 0.1.0, which told them apart, has left them."""
    usual = {"labels.p": [1.0, 1e-3], "model.neck": [True], "runtime.gpu": ["no"], "seed": [0]}
    search, other = ({key: {"grid": values} for key, values in keys.items()} for keys in (usual, others))
    first = plan_of(tmp_path, search)
    names = {trial.name for trial in first.trials}
    assert {trial.name for trial in plan_of(tmp_path, other).trials} == names and len(names) == 2
    twice = plan_of(tmp_path, {"labels.p": {"grid": [1, 1.0, "1e0"]}, "runtime.gpu": {"grid": ["no", False]}})
    assert len(twice.trials) == 1
    (tmp_path / "out" / "trials").mkdir(parents=True)
    old = tmp_path / "out" / "trials" / "p=1_seed=0_gpu=no_neck=True_01234567.json"
    old.write_text('{"labels.p": 1, "seed": 0, "runtime.gpu": "no", "model.neck": true}')
    found = plan_of(tmp_path, other)
    assert sorted(trial.name == old.stem for trial in found.trials) == [False, True]
    assert sorted(Path(found.config(trial).output).name == old.stem for trial in found.trials) == [False, True]


def test_who_shares_a_source_model(tmp_path: Path) -> None:
    search = {"labels.p": {"grid": [0.02, 0.03]}, "model.attention": {"grid": ["none", "shared"]}, "seed": {"grid": [0, 1]}}
    plan = plan_of(tmp_path, search)
    shared = shared_pretraining(plan, plan.trials)
    assert len(shared) == 8 and len(set(shared.values())) == 4
    alone = plan_of(tmp_path, {"seed": {"grid": [0, 1]}})
    assert shared_pretraining(alone, alone.trials) == {}, "nobody to share with"
    given = plan_of(tmp_path, search, "pretrain.checkpoint=x.pt")
    assert shared_pretraining(given, given.trials) == {}


def test_source_models_of_daams_variants(tmp_path: Path) -> None:
    """Pre-training trains neither the domain branch nor a second attention: two source models for six networks."""
    search = {"model.attention": {"grid": ["individual", "none", "shared"]}, "model.domain_branch": {"grid": [True, False]}}
    plan = plan_of(tmp_path, search)
    shared = shared_pretraining(plan, plan.trials)
    assert len(shared) == 6 and len(set(shared.values())) == 2
    models = [pretraining(plan.config(trial), tmp_path).model for trial in plan.trials]
    assert {(model.attention, model.domain_branch) for model in models} == {("none", False), ("shared", False)}


@pytest.mark.parametrize("base", ["synthetic", "drawn"])  # drawn: 0.1.0
def test_the_synthetic_pair_as_base(tmp_path: Path, base: str) -> None:
    """Its name makes the pair be drawn before the trials run."""
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({"base": base, "output": str(tmp_path / "out"), "search": {"seed": {"grid": [3]}}}))
    plan = read_plan(file, lambda seed: small_settings((tmp_path / f"{seed}.arrow", tmp_path / "t.arrow"), tmp_path / "run"))
    assert plan.synthetic and plan.config(plan.trials[0]).source.data.endswith("3.arrow")
    assert not plan_of(tmp_path, {"seed": {"grid": [3]}}).synthetic


@pytest.mark.parametrize(
    ("search", "more", "said"),
    [
        ({"labels.q": {"grid": [1]}}, {}, r"unknown key 'labels.q' \(did you mean 'labels\.p|labels.k"),
        ({"labels.p": {"grid": [0.1, 2.0]}}, {}, "labels.p=2.0"),
        ({"labels.p": [0.1]}, {}, "search.labels.p must be one of grid"),
        ({"labels.p": {"loguniform": [0.1, 0.01]}}, {}, r"needs \[low, high\]"),
        ({"labels.p": {"grid": [0.1]}}, {"samlpes": 3}, "did you mean 'samples'"),
        ({"labels.p": {"grid": [0.1]}}, {"base": "gone.yaml"}, "gone.yaml cannot be read"),
        ({"labels.p": {"grid": [0.1]}}, {"base": 3}, "base must be a configuration file, or synthetic"),
        ({"labels.p": {"grid": [0.1]}}, {"scheduler": "hyperband"}, "must be one of none, asha"),
        ({"labels.p": {"grid": [0.1]}}, {"search_algorithm": "optuna"}, "in place of grid"),
        ({"labels.p": {"grid": [0.1]}}, {"loggers": ["excel"]}, "tensorboard, mlflow, wandb"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, search: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan_of(tmp_path, search, **more)

"""`source.balance`: of every method's batches each set gives as many images, however many workers, and after a stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distreid.actions.train import with_absolute_paths
from distreid.common.errors import Stopped, UserError
from distreid.config import Config, config_from_dict, to_dict, to_yaml
from distreid.data import ImageStore
from distreid.data.sampling import SOURCE, BatchPlan
from distreid.methods.contrast import stages as contrast
from distreid.methods.daam import stages as daam
from distreid.methods.daam.algorithm import DAAM
from distreid.methods.edaan import stages as edaan
from distreid.training import ProcessGroup, RunDirectory, load_tensors
from distreid.training.context import Context
from distreid.training.domains import open_domain
from distreid.training.in_process import LocalEvaluator, LocalLabeler
from tests.processes import on_ranks
from tests.training_runs import Silent, edaan_settings, run, small_settings

Pair = tuple[Path, Path]
Settings = Callable[[Pair, Path], dict[str, Any]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def balanced(settings: Settings, pair: Pair, output: Path, *overrides: str) -> Config:
    """Ten people of day and three of night are the source, or another choice of each."""
    tree = settings(pair, output)
    tree["source"] = [{"data": str(pair[0]), "identities": [0, 10]}, {"data": str(pair[1]), "identities": [0, 3]}]
    return with_absolute_paths(config_from_dict(tree, ["source.balance=true", *overrides]))


def watched(monkeypatch: pytest.MonkeyPatch, *stages: type) -> list[BatchPlan]:
    """Every plan that these stages make from now on."""
    plans = list[BatchPlan]()
    for stage in stages:
        plan = stage.plan  # type: ignore[attr-defined]

        def keep(self: Any, epoch: int, plan: Callable[[Any, int], BatchPlan] = plan) -> BatchPlan:
            plans.append(plan(self, epoch))
            return plans[-1]

        monkeypatch.setattr(stage, "plan", keep)
    return plans


def sets_in(config: Config) -> np.ndarray:
    """Which set each training image is of, by its path in the merged file."""
    store = ImageStore.open(config.source.data)
    return np.array([int(path[0]) - 1 for path in store.paths[store.splits == "train"]])


DAAM_STAGES, CONTRAST_STAGES = (daam.Pretraining, daam.Adaptation), (contrast.Pretraining, contrast.Adaptation)
PK = ("pretrain.sampler=pk", "adapt.sampler=pk", "pretrain.instances=2", "adapt.instances=2")
SHORT = ("pretrain.epochs=1", "adapt.epochs=1", "adapt.rounds=1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "stages", "overrides"),
    [
        (small_settings, DAAM_STAGES, SHORT),
        (small_settings, DAAM_STAGES, (*SHORT, *PK)),
        (small_settings, CONTRAST_STAGES, ("method=contrast", *SHORT, *PK)),
        (edaan_settings, (edaan.TranslationStage,), ("edaan.epochs=1", "edaan.decay_epochs=0", "edaan.attention_epochs=1")),
        (edaan_settings, (edaan.TranslationStage, edaan.ReIDStage), ("edaan.variant=daan", "edaan.epochs=1", "edaan.decay_epochs=0",
         "edaan.attention_epochs=1", "edaan.reid_decay_epochs=0")),
    ],
    ids=["daam", "daam-pk", "contrast", "edaan", "daan"],
)  # fmt: skip
def test_each_set_gives_as_many_images_of_a_batch(
    packed_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings, stages: Any, overrides: tuple[str, ...]
) -> None:
    config = balanced(settings, packed_pair, tmp_path / "run", *overrides)
    sets, plans = sets_in(config), watched(monkeypatch, *stages)
    assert np.bincount(sets)[0] > 2 * np.bincount(sets)[1] > 0
    run(config)
    assert len(plans) == len(stages)
    for plan in plans:
        shown = [index_B[domain_B == SOURCE] for index_B, domain_B in zip(plan.index_SB, plan.domain_SB, strict=True)]
        for source in shown:
            counts = np.bincount(sets[source], minlength=2)
            assert counts[0] == counts[1] > 0
        assert len(np.unique(np.concatenate(shown)[sets[np.concatenate(shown)] == 1])) > 1


@pytest.mark.slow
def test_a_stopped_run_continues_to_the_same_bits(packed_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distreid.training.loop.CHECK_EVERY", 1)
    whole, parts = (balanced(small_settings, packed_pair, tmp_path / name, *PK, *SHORT) for name in ("whole", "parts"))
    run(whole)
    with pytest.raises(Stopped, match=r"after step \d+ of epoch"):
        run(parts, Silent(notice_after=("pre-training", 3)))
    run(parts, resume=True)
    found, expected = (load_tensors(RunDirectory(config.output).last)["model"] for config in (parts, whole))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def _train(rank: int, world: int, options: dict[str, Any]) -> None:
    config = config_from_dict(options)
    source, target = (
        dataclasses.replace(open_domain(domain, labelled=labelled), test=None)
        for domain, labelled in ((config.source, True), (config.target, False))
    )
    parts = LocalLabeler(config.labels, torch.device("cpu")), LocalEvaluator({}, torch.device("cpu"))
    DAAM(Context(config, ProcessGroup(rank, world), source, target, *parts, RunDirectory(config.output), Silent())).run()


@pytest.mark.slow
def test_two_workers_give_what_one_gives(packed_pair: Pair, tmp_path: Path) -> None:
    found = []
    for world in (1, 2):
        rates = [f"pretrain.optimizer.{key}=1e-5" for key in ("lr_backbone", "lr_new")]
        config = balanced(small_settings, packed_pair, tmp_path / str(world), *SHORT, "adapt.rounds=0", *rates)
        RunDirectory(config.output).create(to_yaml(config), resume=False)
        on_ranks(world, _train, to_dict(config))
        found.append(load_tensors(RunDirectory(config.output).last)["model"])
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_what_the_run_says_and_what_cannot_be_balanced(packed_pair: Pair, tmp_path: Path) -> None:
    config = balanced(small_settings, packed_pair, tmp_path / "run")
    assert ", batches balanced between 2 sets; test: " in str(open_domain(config.source, labelled=True))
    merged = f"source.data={config.source.data}"
    again = config_from_dict(small_settings(packed_pair, tmp_path / "again"), [merged, "source.balance=true"])
    sets = open_domain(again.source, labelled=True).sets
    assert sets is not None and np.array_equal(sets, sets_in(config))
    one = config_from_dict(small_settings(packed_pair, tmp_path / "one"), ["source.balance=true"])
    with pytest.raises(UserError, match=r"one set of images; source.balance needs several"):
        open_domain(one.source, labelled=True)

"""A third method touches its own folder and the registry: the toy of :mod:`tests.methods.toy` trains, dies, resumes and exports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distreid import config as configuration
from distreid.common.errors import Stopped, UserError
from distreid.config import Config, config_from_dict, to_dict, to_yaml
from distreid.methods.networks import load_model
from distreid.methods.registry import SPECS, find, register
from distreid.training import ProcessGroup, RunDirectory, load_tensors
from distreid.training.context import Context
from distreid.training.domains import open_domain
from distreid.training.in_process import LocalEvaluator, LocalLabeler
from tests.methods import toy
from tests.processes import on_ranks
from tests.training_runs import Silent, metrics, run, small_settings

Make = Callable[..., Config]


def registered() -> None:
    if "toy" not in SPECS:
        register(toy.SPEC)


@pytest.fixture
def make(packed_pair: tuple[Path, Path], tmp_path: Path) -> Iterator[Make]:
    registered()
    yield lambda name, *overrides: config_from_dict(
        small_settings(packed_pair, tmp_path / name) | {"method": "toy"}, list(overrides)
    )
    del SPECS["toy"], configuration.METHODS["toy"]


def weights(config: Config) -> dict[str, Any]:
    return load_tensors(RunDirectory(config.output).last)["model"]


def test_a_registered_method_trains_through_the_same_loop(make: Make) -> None:
    config = make("run", "toy.lr=0.1")
    result = run(config)
    assert result["method"] == "toy" and 0 <= result["final"]["mAP"] <= 1
    lines = [line for line in metrics(config) if line["event"] == "epoch"]
    assert [set(line["loss"]) for line in lines] == [{"identity"}] * 2 and lines[0]["lr"] == 0.1
    model, again, _ = load_model(Path(config.output))
    assert isinstance(model, toy.ToyNetwork) and again.group(toy.ToyConfig).lr == 0.1 and to_dict(again)["toy"]["lr"] == 0.1


@pytest.mark.parametrize("after", [2, 3, 7])
def test_dropout_and_drop_path_are_resumed_to_the_same_bits(make: Make, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distreid.training.loop.CHECK_EVERY", 1)
    whole, parts = make("whole"), make("parts")
    run(whole)
    with pytest.raises(Stopped, match=r"after step \d+ of epoch"):
        run(parts, Silent(notice_after=("toy", after)))
    torch.manual_seed(after)
    run(parts, resume=True)
    assert all(torch.equal(weights(parts)[name], value) for name, value in weights(whole).items())
    dry = make("dry", "toy.dropout=0.0")
    run(dry)
    assert not torch.equal(weights(dry)["head.weight"], weights(whole)["head.weight"]), "nothing was dropped"


def _train(rank: int, world: int, options: dict[str, Any]) -> None:
    registered()
    config = config_from_dict(options)
    source, target = (
        dataclasses.replace(open_domain(domain, labelled=labelled), test=None)
        for domain, labelled in ((config.source, True), (config.target, False))
    )
    parts = LocalLabeler(config.labels, torch.device("cpu")), LocalEvaluator({}, torch.device("cpu"))
    toy.Toy(Context(config, ProcessGroup(rank, world), source, target, *parts, RunDirectory(config.output), Silent())).run()


@pytest.mark.slow
def test_dropout_and_drop_path_do_not_depend_on_the_workers(make: Make) -> None:
    """Nor on the parts that a slice passes in."""
    found = []
    for world, parts in ((1, 1), (2, 2)):
        config = make(f"{world}-{parts}", f"runtime.accumulate={parts}")
        RunDirectory(config.output).create(to_yaml(config), resume=False)
        on_ranks(world, _train, to_dict(config))
        found.append(weights(config))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_methods_mistakes_are_one_line(make: Make) -> None:
    for override, expected in (
        ("toy.epochs=0", "toy.epochs must be greater"),
        ("toy.drpout=0.1", "did you mean 'toy.dropout'"),
        ("method=tay", "did you mean 'toy'"),
        ("toy=3", "toy is a group of keys"),
        ("model.pooling=gem", r"model.pooling=gem does not work with method=toy.*one of daam, edaan, contrast"),
    ):
        with pytest.raises(UserError, match=expected):
            make("run", override)
    for name in ("toy", "labels", "no name"):
        with pytest.raises(UserError, match="cannot be registered"):
            register(dataclasses.replace(toy.SPEC, name=name))
    with pytest.raises(UserError, match="method=none is unknown"):
        find("none")

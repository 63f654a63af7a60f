"""From checkpoints to networks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torchvision.models import resnet18

from distreid.config import Config, config_from_dict
from distreid.methods.networks import load_model
from distreid.models import DAAMNet
from distreid.training import ProcessGroup, RunDirectory, load_tensors, save_tensors
from distreid.training.context import Context
from distreid.training.domains import open_domain
from distreid.training.in_process import LocalEvaluator, LocalLabeler
from tests.training_runs import Silent, run

OLD = Path(__file__).parents[1] / "fixtures" / "v0.1.0"


def told_stride_one(file: Path, **more: Any) -> dict[str, Any]:
    """A checkpoint of 0.1.0 whose configuration said model.last_stride=1, which that version ignored for timm's networks."""
    saved = load_tensors(file)
    saved["config"]["model"]["last_stride"] = 1
    return saved | more


def map_height(path: Path) -> int:
    model, _, _ = load_model(path)
    assert isinstance(model, DAAMNet)
    return model.backbone(torch.zeros(1, 3, 64, 32)).shape[2]


def test_a_network_of_010_keeps_the_last_stride_that_it_was_trained_with(tmp_path: Path) -> None:
    file, copy = OLD / "daam" / "checkpoints" / "round-00.pt", tmp_path / "copy.pt"
    save_tensors(copy, told_stride_one(file))
    assert map_height(copy) == map_height(file)
    assert load_model(copy)[1].model.last_stride == 2
    save_tensors(copy, told_stride_one(file, normalisation=([0.5] * 3, [0.5] * 3)))  # of today
    assert map_height(copy) == 2 * map_height(file)


def test_a_run_of_010_goes_on_with_the_last_stride_that_it_began_with(tmp_path: Path) -> None:
    shutil.copytree(OLD / "daam", tmp_path / "run")
    tree = yaml.safe_load((OLD / "daam.yaml").read_text())
    data = [f"source.data={OLD / 'data' / 'day.arrow'}", f"target.data={OLD / 'data' / 'night.arrow'}"]
    config = config_from_dict(
        tree, [*data, f"output={tmp_path / 'run'}", "model.last_stride=1", "model.backbone=timm/test_efficientnet_gn"]
    )
    networks = open_domain(config.source, labelled=True), open_domain(config.target, labelled=False)
    parts = LocalLabeler(config.labels, torch.device("cpu")), LocalEvaluator({}, torch.device("cpu"))
    directory = RunDirectory(config.output)

    def stride() -> int:
        return Context.begin(config, ProcessGroup(), *networks, *parts, directory, Silent()).config.model.last_stride

    save_tensors(directory.last, told_stride_one(directory.last))
    assert stride() == 2
    saved = load_tensors(directory.last)
    saved["config"]["model"]["last_stride"] = 2  # as its first checkpoint of today says
    save_tensors(directory.last, saved | {"normalisation": ([0.5] * 3, [0.5] * 3)})
    assert stride() == 2
    directory.last.unlink()
    assert stride() == 1, "a run that begins does as it is told"


@pytest.mark.slow
def test_what_a_file_of_weights_holds_is_said_when_a_run_begins(small_config: Callable[..., Config], tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{key}": value for key, value in resnet18().state_dict().items()}}, tmp_path / "w.pt")
    config = small_config("model.backbone=resnet18", f"model.weights={tmp_path / 'w.pt'}", "adapt.rounds=0", "pretrain.epochs=1")
    begins, goes_on = Silent(), Silent()
    run(config, begins)
    (line,) = [note for note in begins.notes if note.startswith("model.weights")]
    assert line == f"model.weights={tmp_path / 'w.pt'}: 120 tensors named module.*; not used: fc"
    run(config, goes_on, resume=True)
    assert not any(note.startswith("model.weights") for note in goes_on.notes)


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_main_process_speaks(rank: int, small_config: Callable[..., Config], tmp_path: Path) -> None:
    reporter, config = Silent(), small_config()
    network = open_domain(config.source, labelled=True)
    parts = LocalLabeler(config.labels, torch.device("cpu")), LocalEvaluator({}, torch.device("cpu"))
    context = Context(config, ProcessGroup(rank, 2), network, network, *parts, RunDirectory(config.output), reporter)
    context.note("once")
    assert reporter.notes == ["once"] * (rank == 0)

"""Every method's whole training on a fake CUDA device: no step lets the host wait, none mixes devices, few copies go there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from distreid.config import config_from_dict, to_yaml
from distreid.data.sampling import BatchPlan
from distreid.labels import PseudoLabels
from distreid.methods.registry import SPECS, find
from distreid.models.backbone import Backbone
from distreid.training import ProcessGroup, RunDirectory
from distreid.training.checkpoints import Checkpoints
from distreid.training.context import Context
from distreid.training.domains import open_domain
from distreid.training.loop import Trainer
from distreid.training.protocols import RoundLabels
from distreid.training.stage import Stage
from tests.fake_cuda import Copy, Watch, backward, fake_cuda
from tests.training_runs import Silent, edaan_settings, small_settings

GPU = torch.device("cuda", 0)
STEPS = 2  # of each stage
REFUSED = (AssertionError, RuntimeError, DataDependentOutputException, DynamicOutputShapeException)
SHORT = {"daam": ["adapt.rounds=1"], "edaan": ["edaan.attention_epochs=1", "edaan.decay_epochs=0"]}
Train = Callable[..., "Steps"]


class DrawnLabels:
    """Labels of features that were never computed: clusters of four, and every tenth image in none."""

    def label(self, key: str, shard_nD: np.ndarray, eps: float | None) -> RoundLabels:
        labels_N = np.arange(len(shard_nD)) // 4
        clusters = int(labels_N[-1]) + 1
        labels_N[::10] = -1
        centers_KD = np.random.default_rng(0).normal(size=(clusters, shard_nD.shape[1])).astype(np.float32)
        return RoundLabels(PseudoLabels(labels_N, centers_KD, 0.5), shard_nD)


class DrawnScores:
    def score(self, key: str, test: str, shard_nD: np.ndarray) -> Any:
        return lambda: {"mAP": 0.5, "rank1": 0.5, "rank5": 0.5, "rank10": 0.5}


class Steps(Silent):
    """The copies of each step but a stage's first, which may bring what the others look things up in."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch, self._first = watch, True
        self.copies: list[list[Copy]] = []

    def stage(self, title: str, total: int, done: int = 0) -> None:
        super().stage(title, total, done)
        self._first = True

    def advance(self, done: int, figures: dict[str, float]) -> None:
        if not self._first:
            self.copies.append(list(self._watch.copies))
        self._first = figures == {}
        self._watch.copies.clear()


def tiny_backbone(*_: Any) -> Backbone:
    """In place of torchvision's: a layer of each kind that a step treats in its own way."""
    halves = [nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)]
    return Backbone(nn.Sequential(halves[0], nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), halves[1], nn.BatchNorm2d(16)), 0)


@pytest.fixture
def trained(packed_pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains a configuration on the fake device, a few steps of each stage. What the loop does between them, where it may wait,
    is left out."""
    fit = Trainer.fit
    draw = np.random.default_rng(0)

    def shortly(self: Trainer[Any, Any], stage: Stage) -> None:
        whole, stage.epochs = stage.plan, min(stage.epochs, self.state.epoch + 1)

        def plan(epoch: int) -> BatchPlan:
            return BatchPlan(whole(epoch).domain_SB[:STEPS], whole(epoch).index_SB[:STEPS])

        stage.plan, stage.after_epoch = plan, nothing  # type: ignore[method-assign, assignment]
        fit(self, stage)

    def extract(self: Trainer[Any, Any], images: Any, *_: Any, **__: Any) -> np.ndarray:
        return draw.normal(size=(len(images), self.model.feature_channels)).astype(np.float32)

    def nothing(*_: Any, **__: Any) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(Trainer, "fit", shortly)
    monkeypatch.setattr(Trainer, "extract", extract)
    for place, name in (
        (Trainer, "look"), (Trainer, "bring_together"), (Checkpoints, "save"), (Checkpoints, "save_round"),
        (torch.amp.GradScaler, "state_dict"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, nothing)

    def train(method: str, *overrides: str) -> Steps:
        if not any(override.startswith("model.backbone=") for override in overrides):
            monkeypatch.setattr("distreid.models.backbone._build_torchvision", tiny_backbone)
        make = edaan_settings if method == "edaan" else small_settings
        config = config_from_dict(make(packed_pair, tmp_path / "run") | {"method": method}, ["model.last_stride=2", *overrides])
        RunDirectory(config.output).create(to_yaml(config), resume=False)
        domains = open_domain(config.source, labelled=True), open_domain(config.target, labelled=False)
        with fake_cuda() as watch:
            steps = Steps(watch)
            parts = (*domains, DrawnLabels(), DrawnScores(), RunDirectory(config.output), steps)
            find(method).method(Context(config, ProcessGroup(device=GPU), *parts)).run()
        assert steps.copies
        return steps

    return train


OPTIONS = [
    ("daam", "loss.target=hard", "model.attention=none", "model.domain_branch=false", "adapt.optimizer.clip=1.0"),
    ("daam", "loss.target=lsr", "model.attention=individual", "model.neck=true", "runtime.precision=fp16", "adapt.sampler=pk",
     "adapt.optimizer.clip=1.0", "runtime.accumulate=2"),
    ("daam", "loss.normalize=true", "runtime.feature_dtype=float16", "labels.features=raw", "adapt.optimizer.name=sgd"),
    ("daam", "loss.triplet=1.0", "model.pooling=gem", "model.neck=true", "model.teacher=0.9", "model.domain_batchnorm=true",
     "pretrain.sampler=pk", "adapt.sampler=pk", "pretrain.instances=2", "adapt.instances=2"),
    ("contrast", "loss.triplet=1.0", "loss.triplet_margin=soft", "model.pooling=mean", "model.teacher=0.9",
     "model.domain_batchnorm=true", "pretrain.sampler=pk", "pretrain.instances=2", "adapt.instances=2", "adapt.rounds=1"),
    ("edaan", "edaan.foreground_view=true", "edaan.mask_threshold=0.0", "edaan.area_prior_weight=1.0", "edaan.binary_weight=1.0",
     "edaan.replay=0", "edaan.epochs=1"),
    ("edaan", "edaan.variant=daan", "edaan.metric=triplet", "edaan.mining=all", "edaan.gan=squares", "edaan.replay=0",
     "edaan.epochs=1"),
    ("edaan", "edaan.variant=cyclegan", "edaan.attention=false", "edaan.metric=none", "edaan.feature=pooled", "edaan.replay=0",
     "edaan.epochs=1"),
    ("edaan", "edaan.variant=direct", "edaan.mining=all", "model.pooling=gem", "runtime.precision=fp16",
     "input.erase=0.5", "input.pad=2"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("method", SPECS)
def test_no_step_of_a_method_waits(trained: Train, method: str, precision: str) -> None:
    """Nor mixes devices, nor looks at what it computed: the fake device refuses."""
    steps = trained(method, f"runtime.precision={precision}", f"runtime.channels_last={str(precision != 'fp32').lower()}")
    check_copies(steps, tables=3)  # a method may draw on the host: edaan, which past translations are judged


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options[:3]))
def test_no_step_of_its_options_waits(trained: Train, options: tuple[str, ...]) -> None:
    check_copies(trained(*options), tables=2 if options[0] == "contrast" else 1)  # contrast: the rows of its memory that move


def check_copies(steps: Steps, tables: int = 1) -> None:
    """A step's images in bytes, a table of all that there is to know of them, and what dropout keeps; none of it waits.

    tables: of whole numbers, at most.
    """
    for copies in steps.copies:
        assert not [copy for copy in copies if copy.waits]
        kinds = [copy.dtype for copy in copies if copy.dtype != torch.bool]
        assert kinds.count(torch.uint8) == 1 and 1 <= kinds.count(torch.int64) == len(kinds) - 1 <= tables, copies


@pytest.mark.slow
def test_a_step_of_the_paper_sends_its_images_and_one_table(trained: Train) -> None:
    steps = trained(
        "daam", "model.backbone=resnet18", "model.last_stride=1", "runtime.precision=bf16", "runtime.channels_last=true"
    )
    check_copies(steps)
    assert {len(copies) for copies in steps.copies} == {2}


def test_the_walk_through_the_graph_gives_the_engines_gradients() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    x, found = torch.randn(6, 3, 8, 8), []
    for differentiate in (torch.autograd.backward, backward):
        net.zero_grad()
        logits = net(x)
        differentiate(nn.functional.cross_entropy(logits, torch.arange(6) % 5) + (logits[:2] * logits[2:4]).square().mean())
        found.append([parameter.grad for parameter in net.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_fake_device_refuses_what_waits() -> None:
    for wait in (lambda x: x[x > 0], lambda x: float(x.sum()), lambda x: x + torch.ones(4), lambda x: x.cpu()):
        with fake_cuda() as watch, pytest.raises(REFUSED):
            x = torch.ones(4).to("cuda")
            assert [copy.waits for copy in watch.copies] == [True]
            wait(x)

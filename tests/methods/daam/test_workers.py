"""DAAM on one, two and four Gloo processes: the same batches, so the same labels and losses."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from distreid.config import config_from_dict, to_dict, to_yaml
from distreid.data.loader import Batch
from distreid.data.sampling import TARGET
from distreid.methods.daam import algorithm
from distreid.methods.daam.algorithm import DAAM
from distreid.methods.daam.stages import Adaptation
from distreid.training import ProcessGroup, RunDirectory
from distreid.training.context import Context
from distreid.training.domains import open_domain
from distreid.training.in_process import LocalLabeler
from distreid.training.stage import LossTerms
from tests.processes import Shared, on_ranks
from tests.training_runs import Silent, metrics, small_settings


def train(rank: int, world: int, options: dict[str, Any]) -> list[list[int]]:
    """One process's part of a run; the target images that it saw, batch by batch of the round."""
    config = config_from_dict(options)
    networks = (open_domain(config.source, labelled=True), open_domain(config.target, labelled=False))
    source, target = (replace(network, test=None) for network in networks)
    shared = Shared(LocalLabeler(config.labels, torch.device("cpu")), world)
    seen: list[list[int]] = []

    class Watched(Adaptation):
        def loss(self, batch: Batch, epoch: int) -> LossTerms:
            seen.append(batch.index_B[batch.domain_B == TARGET].tolist())
            return super().loss(batch, epoch)

    algorithm.Adaptation = Watched  # type: ignore[misc]  # of this process alone
    DAAM(Context(config, ProcessGroup(rank, world), source, target, shared, shared, RunDirectory(config.output), Silent())).run()
    return seen


PARTS = ["model.pooling=gem", "model.neck=true", "model.teacher=0.9", "model.domain_batchnorm=true", "loss.triplet=0.5"]
PARTS += [f"{stage}.{key}" for stage in ("pretrain", "adapt") for key in ("sampler=pk", "instances=2")]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "worlds", "parts"), [(4, (2, 4), []), (8, (2,), PARTS)], ids=["paper", "parts"])
def test_workers_train_the_same_round(
    packed_pair: tuple[Path, Path], tmp_path: Path, group: int, worlds: tuple[int, ...], parts: list[str]
) -> None:
    def go(world: int, name: str, *overrides: str) -> tuple[list[dict[str, Any]], list[list[int]]]:
        options = small_settings(packed_pair, tmp_path / name)
        options["model"]["batchnorm_group"] = group
        config = config_from_dict(options, [*parts, *overrides])
        RunDirectory(config.output).create(to_yaml(config), resume=False)
        seen = on_ranks(world, train, to_dict(config))
        return metrics(config), [list(chain.from_iterable(step)) for step in zip(*seen, strict=True)]

    go(1, "source", "adapt.rounds=0")
    same = [f"pretrain.checkpoint={tmp_path / 'source'}", "adapt.rounds=1", "adapt.epochs=1"]
    one, batches = go(1, "one", *same)
    assert [line["event"] for line in one] == ["round", "labels", "epoch", "round"]
    assert len(batches) > 1  # how many images are in clusters, and so in batches, is up to the machine's arithmetic
    for world in worlds:
        more, alike = go(world, f"{world} workers", *same)
        assert alike == batches, "every step has the same target images, in the same order"
        assert [more[1][key] for key in ("clusters", "outliers")] == [one[1][key] for key in ("clusters", "outliers")]
        assert more[1]["eps"] == pytest.approx(one[1]["eps"], rel=1e-4)
        # The hardest of a batch are chosen, so rounding moves their term more than the others.
        for name, value in one[2]["loss"].items():
            assert more[2]["loss"][name] == pytest.approx(value, rel=1e-2 if name == "triplet" else 2e-3)

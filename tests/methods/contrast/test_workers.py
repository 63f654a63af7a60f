"""contrast on one, two and three Gloo processes: the same batches, so the same labels, memory and losses."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from distreid.config import config_from_dict, to_dict, to_yaml
from distreid.data.loader import Batch
from distreid.methods.contrast import algorithm
from distreid.methods.contrast.stages import Adaptation
from distreid.training import ProcessGroup, RunDirectory, load_tensors
from distreid.training.context import Context
from distreid.training.domains import open_pair
from distreid.training.in_process import LocalLabeler
from distreid.training.stage import LossTerms
from tests.processes import Shared, on_ranks
from tests.training_runs import Silent, metrics, small_settings


def train(rank: int, world: int, options: dict[str, Any]) -> list[list[int]]:
    """One process's part of a run; the images that it saw, batch by batch of the round."""
    config = config_from_dict(options)
    source, target = (replace(network, test=None) for network in open_pair(config))
    shared = Shared(LocalLabeler(config.labels, torch.device("cpu")), world)
    seen: list[list[int]] = []

    class Watched(Adaptation):
        def loss(self, batch: Batch, epoch: int) -> LossTerms:
            seen.append(batch.index_B.tolist())
            return super().loss(batch, epoch)

    algorithm.Adaptation = Watched  # type: ignore[misc]  # of this process alone
    context = Context(config, ProcessGroup(rank, world), source, target, shared, shared, RunDirectory(config.output), Silent())
    algorithm.Contrast(context).run()
    return seen


PARTS = ["model.domain_batchnorm=true", "loss.triplet=0.5"]
PARTS += [f"{stage}.{key}" for stage in ("pretrain", "adapt") for key in ("sampler=pk", "instances=2")]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "worlds", "parts"), [(4, (2, 3), []), (8, (2,), PARTS)], ids=["papers", "parts"])
def test_the_workers_train_the_same_round(
    packed_pair: tuple[Path, Path], tmp_path: Path, group: int, worlds: tuple[int, ...], parts: list[str]
) -> None:
    """Three of them hold slices of one, one and two groups: what is left where nodes were lost."""

    def go(world: int, name: str, *overrides: str) -> tuple[list[dict[str, Any]], list[list[int]], torch.Tensor]:
        tree = small_settings(packed_pair, tmp_path / name) | {"method": "contrast"}
        tree["model"]["batchnorm_group"] = group
        config = config_from_dict(tree, ["contrast.outliers=classes", "model.teacher=0.9", *parts, *overrides])
        RunDirectory(config.output).create(to_yaml(config), resume=False)
        seen = on_ranks(world, train, to_dict(config))
        memory_KD = (load_tensors(RunDirectory(config.output).last)["optimizer"] or {}).get("memory")
        return metrics(config), [list(chain.from_iterable(step)) for step in zip(*seen, strict=True)], memory_KD

    # At a rate at which rounding does not grow: the larger Adam's steps are, the more a sum in another order is felt.
    same = ["pretrain.epochs=0", "adapt.rounds=1", "adapt.epochs=1"]
    same += [f"adapt.optimizer.{key}=1e-5" for key in ("lr_backbone", "lr_new")]
    one, batches, memory_KD = go(1, "one", *same)
    assert [line["event"] for line in one] == ["round", "labels", "epoch", "round"] and len(batches) >= 2
    for world in worlds:
        more, alike, other_KD = go(world, f"{world} workers", *same)
        assert alike == batches, "every step has the same images, in the same order"
        assert [more[1][key] for key in ("clusters", "outliers")] == [one[1][key] for key in ("clusters", "outliers")]
        assert more[2]["loss"] == pytest.approx(one[2]["loss"], rel=2e-3)
        torch.testing.assert_close(other_KD, memory_KD, rtol=0, atol=2e-2)

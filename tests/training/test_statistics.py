"""The statistics of BatchNorm by other images: against a plain loop, and by two processes as by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distreid.data.loader import View
from distreid.models import GroupedBatchNorm2d, ReIDNetwork, group_batchnorm
from distreid.training import ProcessGroup, statistics
from distreid.training.engine import Precision
from tests.processes import on_ranks

SEED, IMAGES = [3, 1], 29


@dataclass
class Drawn:
    """Noise in the colours of a few cameras, whose images stand side by side."""

    x_NCHW: Tensor

    def read(self, indices: np.ndarray, height: int, width: int) -> Tensor:
        return self.x_NCHW[torch.from_numpy(indices)]

    def __len__(self) -> int:
        return len(self.x_NCHW)


class Net(ReIDNetwork):
    """Two layers, the second of which sees what the first one's statistics have made."""

    feature_channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        )

    def features(self, x_BCHW: Tensor) -> Tensor:
        return self.body(x_BCHW).mean((2, 3))


def drawn() -> Drawn:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 120, (IMAGES, 3, 8, 6)) + rng.integers(0, 130, (4, 3, 1, 1))[np.arange(IMAGES) // 8]
    return Drawn(torch.from_numpy(x.astype(np.uint8)))


def net() -> Net:
    torch.manual_seed(0)
    model = Net()
    group_batchnorm(model, 5)
    return model


def taken(rank: int, world: int, batch: int) -> dict[str, Any]:
    statistics.BATCH = batch  # of this process alone
    model, images = net(), drawn()
    statistics.take_statistics(
        model, [model.body], View(images, np.arange(IMAGES)), ProcessGroup(rank, world), Precision("fp32", torch.device("cpu")),
        height=8, width=6, seed=SEED,
    )  # fmt: skip
    assert model.training and {layer.group for layer in model.modules() if isinstance(layer, GroupedBatchNorm2d)} == {5}
    return dict(model.state_dict())


@pytest.mark.parametrize(("batch", "batches"), [(8, 3), (64, 1)])
def test_they_are_the_mean_of_those_of_batches(batch: int, batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "BATCH", batch)
    found, size = taken(0, 1, batch), min(batch, IMAGES)
    order, layers = np.random.default_rng(SEED).permutation(IMAGES), dict(net().body.named_children())
    before, seen = net().state_dict(), {name: [] for name in ("1", "4")}
    for number in range(batches):
        x = drawn().x_NCHW[torch.from_numpy(order[number * size : (number + 1) * size])].float() / 255
        x = (x - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / 0.2
        for name, layer in layers.items():
            if name in seen:
                mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=1)
                seen[name].append(torch.stack([mean, variance]))
                x = (x - mean[:, None, None]) / (x.var((0, 2, 3), correction=0)[:, None, None] + layer.eps).sqrt()
            elif not isinstance(layer, nn.Dropout):
                x = layer(x)
    for name, values in seen.items():
        mean, variance = torch.stack(values).mean(0)
        torch.testing.assert_close(found[f"body.{name}.running_mean"], mean.detach())
        torch.testing.assert_close(found[f"body.{name}.running_var"], variance.detach())
    for name, value in found.items():
        assert "running" in name or "tracked" in name or torch.equal(value, before[name])


@pytest.mark.slow
def test_two_processes_take_what_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches: one of them has two."""
    monkeypatch.setattr(statistics, "BATCH", 8)
    one, (first, second) = taken(0, 1, 8), on_ranks(2, taken, 8)
    for name, value in one.items():
        if "tracked" not in name:
            torch.testing.assert_close(first[name], value)
            assert torch.equal(first[name], second[name])

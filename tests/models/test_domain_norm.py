"""A BatchNorm for each domain against plain ones that see their own images alone."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from distreid.models import Backbone, DAAMNet, begin_target, domain_batchnorm, group_batchnorm, match_on, train_on
from distreid.models.domain_norm import DomainBatchNorm


def layer(group: int, *, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.BatchNorm2d(5))
    domain_batchnorm(group_batchnorm(model, group))
    for side in (model[0].source, model[0].target):
        nn.init.uniform_(side.weight)
        nn.init.uniform_(side.bias)
    return model


def alone(model: nn.Sequential, side: str) -> nn.BatchNorm2d:
    """A plain layer with the weights of a side."""
    plain = nn.BatchNorm2d(5)
    plain.load_state_dict(getattr(model[0], side).state_dict())
    return plain


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 5, 3, 2) * torch.arange(1, count + 1)[:, None, None, None]


def test_each_half_of_each_group_is_normalised_by_its_own_layer() -> None:
    model, x, half = layer(4), images(12), 2
    train_on(model, "mixed")
    slow, ends = torch.empty_like(x), dict[str, list[nn.BatchNorm2d]](source=[], target=[])
    for number, part in enumerate(x.split(half)):
        side = ("source", "target")[number % 2]
        plain = alone(layer(4), side)
        slow[number * half : (number + 1) * half] = plain(part)
        ends[side].append(plain)
    torch.testing.assert_close(model(x), slow)
    for side, plains in ends.items():
        for name in ("running_mean", "running_var"):
            mean = torch.stack([getattr(plain, name) for plain in plains]).mean(0)
            torch.testing.assert_close(getattr(getattr(model[0], side), name), mean)
    with pytest.raises(ValueError, match="multiple"):
        model(images(6))


@pytest.mark.parametrize("side", ["source", "target"])
def test_batches_of_one_domain_pass_its_layer_alone(side: Literal["source", "target"]) -> None:
    model, other = layer(4), "target" if side == "source" else "source"
    plain, before = alone(model, side), {name: value.clone() for name, value in getattr(model[0], other).state_dict().items()}
    idle = train_on(model, side)
    assert {id(p) for p in idle} == {id(p) for p in getattr(model[0], other).parameters()}
    x = images(4)
    torch.testing.assert_close(model(x), plain(x))
    assert all(torch.equal(value, before[name]) for name, value in getattr(model[0], other).state_dict().items())
    model.eval()
    match_on(model, side)
    x = images(3)
    torch.testing.assert_close(model(x), plain.eval()(x))


def test_two_workers_averaged_are_one() -> None:
    one, workers = layer(4), [layer(4) for _ in range(2)]
    for model in (one, *workers):
        assert train_on(model, "mixed") == []
    for _ in range(3):
        x = images(8)
        torch.testing.assert_close(one(x), torch.cat([worker(part) for worker, part in zip(workers, x.split(4), strict=True)]))
    for name, value in one.named_buffers():
        if value.is_floating_point():
            mean = torch.stack([dict(worker.named_buffers())[name] for worker in workers]).mean(0)
            torch.testing.assert_close(value, mean)


def test_a_network_is_made_for_the_target_which_begins_with_what_the_source_has_learnt() -> None:
    model, x = layer(4), images(3)
    train_on(model, "source")
    model(images(4))
    model.eval()
    assert not torch.allclose(model(x), alone(model, "source").eval()(x))
    begin_target(model)
    torch.testing.assert_close(model(x), alone(model, "source").eval()(x))


def network(*, domains: bool, teacher: bool) -> DAAMNet:
    body = nn.Sequential(nn.Conv2d(3, 16, 3, stride=4), nn.BatchNorm2d(16), nn.ReLU())
    model = DAAMNet(Backbone(body, 16), 5, attention="none", teacher=teacher)
    group_batchnorm(model, 4)
    return domain_batchnorm(model) if domains else model  # type: ignore[return-value]


@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize("domains", [False, True])
def test_weights_of_a_run_without_the_part_and_the_other_way_round(domains: bool, teacher: bool) -> None:
    """The features are the same; what one has too many is left out."""
    torch.manual_seed(0)
    first, second = network(domains=not domains, teacher=not teacher), network(domains=domains, teacher=teacher)
    for module in first.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight)
    begin_target(first)
    if first.teacher is not None:
        first.begin_teacher()
    second.load_state_dict(second.with_own_parts(first.state_dict()))
    x = torch.randn(3, 3, 16, 8)
    torch.testing.assert_close(second.eval().features(x), first.eval().features(x))
    assert any(isinstance(module, DomainBatchNorm) for module in second.modules()) == domains
    again = second.with_own_parts(second.state_dict())
    assert all(torch.equal(again[name], value) for name, value in second.state_dict().items())

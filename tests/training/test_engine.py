import copy
import sys
from typing import Any

import pytest
import torch
from torch import nn

from distreid.data.sampling import shard
from distreid.errors import UserError
from distreid.models import group_batchnorm
from distreid.training import Engine, Precision, ProcessGroup, learning_rate_factor
from tests.processes import on_ranks

STEP = {"schedule": "step", "step_epochs": 60, "step_gamma": 0.1, "warmup_epochs": 0.0}
COSINE = {"schedule": "cosine", "step_epochs": 60, "step_gamma": 0.1, "warmup_epochs": 2.0}


def test_step_schedule_is_the_papers() -> None:
    factors = [learning_rate_factor(epoch, 260, **STEP) for epoch in (0, 19.9, 59.99, 60, 119, 120, 259)]
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 1e-4])


def test_cosine_rises_then_falls_to_zero() -> None:
    values = [learning_rate_factor(epoch / 10, 10, **COSINE) for epoch in range(101)]
    assert values[0] == pytest.approx(0, abs=1e-6) and values[100] == pytest.approx(0, abs=1e-6)
    assert values[10] == pytest.approx(0.5 * 0.5 * (1 + 0.9510565163), rel=1e-6)
    assert values.index(max(values)) == 20


def _train(
    rank: int,
    world: int,
    steps: int = 4,
    zero_stage: int | None = None,
    accumulate: int = 1,
    optimizer: str = "sgd",
    saved: dict[str, Any] | None = None,
    precision: str = "fp32",
) -> dict[str, Any]:
    """A small network with BatchNorm, two groups of parameters and a frozen layer, trained on this rank's slice of the same global
    batches; ``saved`` continues from what another call returned."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2), nn.Linear(2, 1))
    model[5].weight.data.zero_()
    group_batchnorm(model, 2)
    if saved is not None:
        model.load_state_dict(saved["model"])
    team = ProcessGroup(rank, world)
    groups = [{"params": list(model[:2].parameters()), "lr": 0.1}, {"params": list(model[4].parameters()), "lr": 0.02}]
    engine = Engine(
        model, groups, lambda epoch: 1.0, team, Precision(precision, team.device), weight_decay=1e-3, optimizer=optimizer,
        zero_stage=zero_stage, accumulate=accumulate,
    )  # fmt: skip
    first = 0
    if saved is not None:
        engine.load_optimizer_state(copy.deepcopy(saved["optimizer"]))  # torch goes on counting in the very tensors it is given
        first = saved["steps"]
    x = torch.randn(first + steps, 8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    target = torch.randn(first + steps, 8, 1, generator=torch.Generator().manual_seed(2))
    losses = []
    for step in range(first, first + steps):
        engine.learning_rate(0)
        groups = shard(4, rank, world)
        mine = slice(2 * groups.start, 2 * groups.stop)
        parts = [half[mine].chunk(accumulate) for half in (x[step], target[step])]
        weight = (mine.stop - mine.start) * world / 8
        for x_part, target_part in zip(*parts, strict=True):
            output = engine.forward(x_part).float()
            loss = weight * ((output - target_part) ** 2).mean()
            engine.step(loss)
            losses.append(team.mean(loss.detach()) / accumulate)
        if step % 2:  # an epoch is two steps: a run is continued from the end of one
            engine.end_epoch(weight)
    state = engine.optimizer_state()
    engine.close()
    means = torch.stack(losses).view(steps, accumulate).sum(1)
    return {"losses": means, "model": model.state_dict(), "optimizer": state, "steps": first + steps}


def assert_same(one: dict[str, Any], two: dict[str, Any], rtol: float = 1e-4, atol: float = 1e-6) -> None:
    torch.testing.assert_close(two["losses"], one["losses"], rtol=rtol, atol=atol)
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, msg=name, rtol=rtol, atol=atol)
    assert two["optimizer"]["param_groups"] == one["optimizer"]["param_groups"]
    assert set(two["optimizer"]["state"]) == set(one["optimizer"]["state"])
    for number, state in one["optimizer"]["state"].items():
        for name, value in state.items():
            torch.testing.assert_close(two["optimizer"]["state"][number][name], value, msg=name, rtol=rtol, atol=atol)


def test_two_processes_compute_what_one_computes() -> None:
    one = _train(0, 1)
    two = on_ranks(2, _train)
    for rank in two:
        assert_same(one, rank)
    assert all(torch.equal(value, two[1]["model"][name]) for name, value in two[0]["model"].items())


def test_processes_that_share_a_batch_unequally_compute_the_same() -> None:
    """Four BatchNorm groups on three workers, as after the loss of a node."""
    one = _train(0, 1)
    for rank in on_ranks(3, _train):
        assert_same(one, rank)


@pytest.mark.parametrize("world", [1, 2])
def test_a_batch_in_parts_computes_what_it_computes_whole(world: int) -> None:
    """The same weights, losses and running statistics."""
    one = _train(0, 1)
    parts = _train(0, 1, accumulate=4) if world == 1 else on_ranks(2, _train, 4, None, 2)[0]
    assert_same(one, parts)


CASES = [(0, "adamw", 1), (1, "sgd", 1), (2, "adamw", 2), (3, "adamw", 1)]  # stage, optimiser, parts of a batch


def _zero(rank: int, world: int) -> dict[int, dict[str, Any]]:
    """By stage: DeepSpeed from the start; from the middle of its own run and of DDP's; DDP from the middle of DeepSpeed's."""
    out = {}
    for stage, optimizer, accumulate in CASES:
        half = _train(rank, world, 2, stage, accumulate, optimizer)
        ddp = _train(rank, world, 2, None, accumulate, optimizer)
        out[stage] = {
            "whole": _train(rank, world, 4, stage, accumulate, optimizer),
            "resumed": _train(rank, world, 2, stage, accumulate, optimizer, half),
            "from_ddp": _train(rank, world, 2, stage, accumulate, optimizer, ddp),
            "to_ddp": _train(rank, world, 2, None, accumulate, optimizer, half),
        }
    return out


@pytest.fixture(scope="module")
def zero() -> list[dict[int, dict[str, Any]]]:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (extra: deepspeed)")
    return on_ranks(2, _zero)


@pytest.mark.parametrize(("stage", "optimizer", "accumulate"), CASES)
def test_deepspeed_computes_what_ddp_computes_and_their_checkpoints_are_exchangeable(
    zero: list[dict[int, dict[str, Any]]], stage: int, optimizer: str, accumulate: int
) -> None:
    one = _train(0, 1, 4, optimizer=optimizer)
    for rank in zero:
        assert_same(one, rank[stage]["whole"])
        for way in ("resumed", "from_ddp", "to_ddp"):
            assert_same({**one, "losses": one["losses"][2:]}, rank[stage][way])
    exact, resumed = zero[0][stage]["whole"]["model"], zero[0][stage]["resumed"]["model"]
    assert all(torch.equal(exact[name], resumed[name]) for name in exact), "a resumed run continues to the same bits"


def test_without_deepspeed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match=r"pip install 'distreid\[deepspeed\]'"):
        _train(0, 1, zero_stage=1)


def test_parameters_outside_the_stage_stay_as_they_are() -> None:
    before = torch.zeros(1, 2)
    assert torch.equal(_train(0, 1)["model"]["5.weight"], before)


def test_fp16_is_for_gpus() -> None:
    with pytest.raises(UserError, match=r"runtime\.precision=fp16"):
        _train(0, 1, precision="fp16")


def test_bf16_channels_last_runs_and_stays_close() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 1))
    x = torch.randn(4, 3, 8, 8)
    exact = model(x)
    team = ProcessGroup()
    precision = Precision("bf16", team.device, channels_last=True)
    engine = Engine(precision.place(model), [{"params": list(model.parameters()), "lr": 0.1}], lambda _: 1.0, team, precision)
    out = engine.forward(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, rtol=0.1, atol=0.1)

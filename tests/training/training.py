"""A small network trained by :class:`distreid.training.Engine`, for comparing strategies, numbers of processes and resumption."""

import copy
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from distreid.data.sampling import shard
from distreid.models import group_batchnorm
from distreid.training import Engine, Precision, ProcessGroup


def train(
    rank: int,
    world: int,
    steps: int = 4,
    *,
    epoch: int = 2,
    zero_stage: int | None = None,
    accumulate: int = 1,
    optimizer: str = "sgd",
    precision: str = "fp32",
    clip: float = 0.0,
    scale: float = 1.0,
    saved: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train on this rank's slice of the same global batches: BatchNorm, two groups of parameters and a frozen layer.

    Args:
        epoch: steps after which the processes come together.
        scale: of the loss and so of the gradients; SGD's rates are divided by it.
        saved: continue from what another call returned.

    Returns:
        The losses [steps], the model, the optimiser's state, and the norm of the gradients [steps] by which an unshared optimiser
        moved the weights.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2), nn.Linear(2, 1)
    )  # fmt: skip
    model[5].weight.data.fill_(1.0)  # frozen
    group_batchnorm(model, 2)
    if saved is not None:
        model.load_state_dict(saved["model"])
    team = ProcessGroup(rank, world)
    rates = [rate / scale if optimizer == "sgd" else rate for rate in (0.01, 0.002)]
    groups = [{"params": list(part.parameters()), "lr": rate} for part, rate in zip((model[:2], model[4]), rates, strict=True)]
    engine = Engine(
        model, groups, lambda epoch: 1.0, team, Precision(precision, team.device), weight_decay=1e-3, optimizer=optimizer,
        zero_stage=zero_stage, accumulate=accumulate, clip=clip,
    )  # fmt: skip
    first = 0
    if saved is not None:
        engine.load_optimizer_state(copy.deepcopy(saved["optimizer"]))  # torch goes on counting in the very tensors it is given
        first = saved["steps"]
    x = torch.randn(first + steps, 8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    target = torch.randn(first + steps, 8, 1, generator=torch.Generator().manual_seed(2))
    losses, norms = [], []
    watch = register_optimizer_step_pre_hook(lambda optimizer, *_: norms.append(_norm(optimizer)))
    for step in range(first, first + steps):
        engine.learning_rate(0)
        part = shard(4, rank, world)
        mine = slice(2 * part.start, 2 * part.stop)
        parts = [half[mine].chunk(accumulate) for half in (x[step], target[step])]
        weight = (mine.stop - mine.start) * world / 8
        for x_part, target_part in zip(*parts, strict=True):
            output = engine.forward(x_part).float()
            loss = weight * scale * ((output - target_part) ** 2).mean()
            engine.step(loss)
            losses.append(team.mean(loss.detach()) / accumulate)
        if (step + 1) % epoch == 0:
            engine.end_epoch(weight)
    watch.remove()
    state = engine.optimizer_state()
    engine.close()
    return {
        "losses": torch.stack(losses).view(steps, accumulate).sum(1),
        "model": model.state_dict(),
        "optimizer": state,
        "steps": first + steps,
        "norms": torch.stack(norms),
    }


def _norm(optimizer: torch.optim.Optimizer) -> torch.Tensor:
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()


def assert_same(one: dict[str, Any], two: dict[str, Any], tolerance: float = 1e-4) -> None:
    """Losses (those of the shorter run's steps), weights, running statistics and the optimiser's state.

    Args:
        tolerance: as a share of a tensor's largest entry.
    """
    common = min(len(one["losses"]), len(two["losses"]))
    _assert_close(two["losses"][-common:], one["losses"][-common:], tolerance, "losses")
    for name, value in one["model"].items():
        _assert_close(two["model"][name], value, tolerance, name)
    assert two["optimizer"]["param_groups"] == one["optimizer"]["param_groups"]
    assert set(two["optimizer"]["state"]) == set(one["optimizer"]["state"])
    for number, state in one["optimizer"]["state"].items():
        assert set(two["optimizer"]["state"][number]) == set(state)
        for name, value in state.items():
            _assert_close(two["optimizer"]["state"][number][name], value, tolerance, f"{name} of parameter {number}")


def _assert_close(value: torch.Tensor, expected: torch.Tensor, tolerance: float, name: str) -> None:
    torch.testing.assert_close(
        value, expected, rtol=0, atol=tolerance * float(expected.abs().max()), msg=lambda text: f"{name}: {text}"
    )

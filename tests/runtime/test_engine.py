import pytest
import torch
from torch import nn

from distreid.models import group_batchnorm
from distreid.runtime import Engine, Precision, Team, learning_rate_factor
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


def _train(rank: int, world: int, steps: int = 4) -> dict[str, torch.Tensor]:
    """A small network with BatchNorm, trained on this rank's slice of the same global batches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2), nn.Linear(2, 1))
    model[5].weight.data.zero_()
    group_batchnorm(model, 4)
    team = Team(rank, world)
    trained = [p for module in model[:5] for p in module.parameters()]
    engine = Engine(
        model, [{"params": trained, "lr": 0.1}], lambda epoch: 1.0, team, Precision("fp32", team.device), weight_decay=1e-3
    )
    x = torch.randn(steps, 8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    losses = []
    for step in range(steps):
        engine.learning_rate(0)
        mine = x[step].split(8 // world)[rank]
        loss = (engine.forward(mine) + model[:5](mine) ** 2).mean()
        engine.step(loss)
        losses.append(team.mean(loss.detach()))
    team.average_buffers(model)
    return {"losses": torch.stack(losses), **model.state_dict()}


def test_two_processes_compute_what_one_computes() -> None:
    one = _train(0, 1)
    two = on_ranks(2, _train)
    for name, value in one.items():
        torch.testing.assert_close(two[0][name], value, msg=name, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(two[1][name], two[0][name], msg=name, rtol=0, atol=0)


def test_parameters_outside_the_stage_stay_as_they_are() -> None:
    before = torch.zeros(1, 2)
    assert torch.equal(_train(0, 1)["5.weight"], before)


def test_bf16_channels_last_runs_and_stays_close() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 1))
    x = torch.randn(4, 3, 8, 8)
    exact = model(x)
    team = Team()
    precision = Precision("bf16", team.device, channels_last=True)
    engine = Engine(precision.place(model), [{"params": list(model.parameters()), "lr": 0.1}], lambda _: 1.0, team, precision)
    out = engine.forward(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, rtol=0.1, atol=0.1)

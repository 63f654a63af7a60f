from functools import partial

import pytest
import torch
from torch import nn

from distreid.common.errors import UserError
from distreid.models import group_batchnorm
from distreid.training import Engine, Precision, ProcessGroup, learning_rate_factor
from distreid.training.strategy import DDPStrategy
from tests.fake_cuda import NoLooks
from tests.processes import on_ranks
from tests.training.training import assert_same, train

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


@pytest.mark.slow
def test_two_processes_compute_what_one_computes() -> None:
    one = train(0, 1)
    two = on_ranks(2, train)
    for rank in two:
        assert_same(one, rank)
    assert all(torch.equal(value, two[1]["model"][name]) for name, value in two[0]["model"].items())


def unseen(rank: int, world: int) -> torch.Tensor:
    """A layer's weights after three steps that looked at nothing."""
    torch.manual_seed(0)
    model = group_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), 2)
    team = ProcessGroup(rank, world)
    groups = [{"params": list(model.parameters()), "lr": 0.1}]
    engine = Engine(model, groups, lambda _: 1.0, team, Precision("fp32", team.device), clip=1.0)
    with NoLooks():
        for x in torch.randn(3, 4, 3, 8, 8)[:, 2 * rank : 2 * rank + 2]:
            engine.step((engine.forward(x) - 1).square().mean())
    return model[0].weight.detach()


@pytest.mark.slow
def test_no_step_through_ddp_looks_at_what_it_computes() -> None:
    """In real processes: a fake device cannot run the wrapper."""
    with NoLooks(), pytest.raises(AssertionError, match="lets the host wait"):
        torch.ones(2)[torch.ones(2) > 0]
    one, other = on_ranks(2, unseen)
    assert torch.equal(one, other)


@pytest.mark.slow
def test_processes_that_share_a_batch_unequally_compute_the_same() -> None:
    """Four BatchNorm groups on three workers, as after the loss of a node."""
    one = train(0, 1)
    for rank in on_ranks(3, train):
        assert_same(one, rank)


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_a_batch_in_parts_computes_what_it_computes_whole(world: int) -> None:
    """The same weights, losses and running statistics."""
    one = train(0, 1)
    parts = train(0, 1, accumulate=4) if world == 1 else on_ranks(2, partial(train, accumulate=2))[0]
    assert_same(one, parts)


def test_parameters_outside_the_stage_stay_as_they_are() -> None:
    assert torch.equal(train(0, 1)["model"]["5.weight"], torch.ones(1, 2))


def test_fp16_is_for_gpus() -> None:
    with pytest.raises(UserError, match=r"runtime\.precision=fp16"):
        train(0, 1, precision="fp16")


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


def test_clipping_limits_the_norm_over_all_parameters() -> None:
    free, clipped = train(0, 1), train(0, 1, clip=0.5)
    assert free["norms"].min() > 1
    torch.testing.assert_close(clipped["norms"], torch.full((4,), 0.5))
    torch.testing.assert_close(train(0, 1, clip=1e6)["losses"], free["losses"], rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_a_scaled_loss_is_clipped_as_an_unscaled_one(optimizer: type[torch.optim.Optimizer]) -> None:
    """As float16 needs on GPUs: the gradients are divided by the scale before their norm is taken."""

    def weight(*, scaled: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        groups = [{"params": list(model.parameters()), "lr": 0.1}]
        strategy = DDPStrategy(model, groups, partial(optimizer, fused=True), lambda m: m, ProcessGroup(), scaled=scaled, clip=0.5)
        for x in torch.randn(5, 8, 4):
            strategy.backward(10 * strategy.forward(x, last=True).square().mean(), last=True)
            strategy.step()
        return model.weight.detach()

    torch.testing.assert_close(weight(scaled=True), weight(scaled=False))


def test_fp32_is_float32_to_its_last_bit_and_bf16_leaves_what_was_set() -> None:
    """TF32 in matrix products and in cuDNN's convolutions: off for fp32, on whatever device the process then computes."""
    cudnn, matmul = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        torch.backends.cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision("high")
        Precision("bf16", torch.device("cpu"))
        assert torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32
        Precision("fp32", torch.device("cuda"))
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.backends.cudnn.allow_tf32 = cudnn
        torch.set_float32_matmul_precision(matmul)


def test_cudnn_tries_its_kernels_on_gpus_but_not_for_fp32() -> None:
    before = torch.backends.cudnn.benchmark
    try:
        for name, device, expected in (
            ("fp32", "cpu", before),
            ("fp16", "cuda", True),
            ("bf16", "cpu", True),
            ("fp32", "cuda", False),
        ):
            Precision(name, torch.device(device))
            assert torch.backends.cudnn.benchmark == expected, (name, device)
    finally:
        torch.backends.cudnn.benchmark = before

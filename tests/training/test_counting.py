"""Work and memory of a small network, counted by hand; the same on tensors with and without data."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from distreid.training.counting import Counting, Operation

B, H, W = 4, 16, 8


def numbers(*shape: int) -> int:
    """Bytes of a float32 tensor."""
    return 4 * torch.Size(shape).numel()


@pytest.mark.parametrize("fake", [True, False])
def test_a_small_convolutional_network(fake: bool) -> None:
    with FakeTensorMode() if fake else contextlib.nullcontext():
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(6 * H * W, 5, bias=False)
        )
        x_BCHW = torch.zeros(B, 3, H, W)
        with Counting() as counting:
            network(x_BCHW).sum().backward()
            convolution, linear = 2 * B * 6 * H * W * 3 * 9, 2 * B * 6 * H * W * 5
            # Backward: both have their weights' gradients, the linear layer its input's as well; the images need none.
            assert counting.work.flops == 2 * convolution + 3 * linear
            map_, weights = numbers(B, 6, H, W), numbers(6, 3, 3, 3)
            calls = counting.work.calls
            assert calls[Operation(convolution, numbers(B, 3, H, W) + weights + map_, False)] == 1
            assert calls[Operation(0, 2 * map_, False)] == 1  # ReLU reads a map and writes one
            assert calls[Operation(0, 3 * map_, False)] == 1  # its gradient reads two
            assert counting.live == weights + numbers(5, 6 * H * W)  # the gradients; all else is gone
            # At the worst moment: both maps and the ReLU's gradient, the last layer's gradient, and logits.
            assert 3 * map_ + numbers(5, 6 * H * W) <= counting.peak <= 3 * map_ + numbers(5, 6 * H * W) + weights + 200


def test_gradients_are_told_from_other_memory() -> None:
    with FakeTensorMode():
        first, second = (nn.Parameter(torch.zeros(100, 100)) for _ in range(2))
        one = numbers(100, 100)
        with Counting() as counting:
            hooks = counting.follow([first, second])
            (torch.zeros(8, 100) @ first @ second).sum().backward()
            assert counting.gradients == counting.live == 2 * one
            assert 2 * one < counting.peak < 3 * one and one < counting.apart < 2 * one  # one at a time is not yet in its place
            counting.begin()
            assert counting.work.flops == 0 and counting.peak == 2 * one and counting.apart == 0
            first.grad = second.grad = None
            assert counting.live == counting.gradients == 0
            for hook in hooks:
                hook.remove()


def test_an_optimiser_reads_and_writes_what_it_changes() -> None:
    with FakeTensorMode():
        weight = nn.Parameter(torch.zeros(100, 50))
        optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=True)
        weight.grad = torch.zeros(100, 50)
        optimizer.step()
        with Counting() as counting:
            optimizer.step()
    assert counting.work.moved == 2 * 3 * numbers(100, 50)  # weight, gradient, momentum


def step(x_BD: Tensor) -> tuple[Tensor, ...]:
    domain_B = torch.tensor([0, 1, 1, 0, 1, 0, 1, 1])
    source_SD, target_TD = x_BD[domain_B == 0], x_BD[domain_B != 0]
    if int(domain_B.min()) < 0:  # waits for a GPU, and goes on
        raise AssertionError
    people = torch.tensor([3, 3, 7]).unique()
    return source_SD, target_TD, people, target_TD[target_TD.sum(1) > 0]


def test_what_depends_on_the_hosts_numbers_has_the_shapes_of_a_real_run() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), Counting():
        x_BD = torch.zeros(8, 6, requires_grad=True)
        source_SD, target_TD, people, chosen = step(x_BD)
        (source_SD.sum() + target_TD.sum()).backward()
        assert x_BD.grad is not None and x_BD.grad.shape == (8, 6)
    assert source_SD.shape == (3, 6) and target_TD.shape == (5, 6) and people.shape == (2,)
    assert chosen.shape == (5, 6)  # nobody knows: all are taken to be chosen


def test_in_inference_mode_a_linear_layer_counts() -> None:
    with FakeTensorMode(), torch.inference_mode(), Counting() as counting:
        nn.Linear(10, 20)(torch.zeros(4, 10))
    assert counting.work.flops == 2 * 4 * 10 * 20


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_both_gradients_of_a_grouped_convolution_cost_as_much_as_itself(groups: int) -> None:
    with FakeTensorMode():
        for layer in (nn.Conv2d(6, 6, 3, padding=1, groups=groups), nn.ConvTranspose2d(6, 6, 3, padding=1, groups=groups)):
            x_BCHW = torch.zeros(B, 6, H, W, requires_grad=True)
            with Counting() as counting:
                layer(x_BCHW).sum().backward()
            assert counting.work.flops == 3 * 2 * B * 6 * H * W * (6 // groups) * 9


def test_modules_move_whatever_their_parameters_were_made_of() -> None:
    """torch exchanges a fake parameter only where nobody else has noted it, and it notes each tensor, and constants twice."""
    with FakeTensorMode(), Counting():
        module = nn.Linear(4, 3)
        module.power = nn.Parameter(torch.tensor([3.0]))
        module.to(torch.device("cpu"))

"""bfloat16 convolutions on a CPU: right, the same whatever lay in memory before, and none that takes many times as long."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from distreid.models.cpu_convolutions import Float32Convolutions, slow, small

MAPS = [(1, 1), (2, 1), (3, 2), (4, 1), (4, 2), (1, 4), (6, 3)]
KINDS = [
    (256, 1, 3, 2),
    (64, 1, 3, 2),
    (64, 64, 5, 2),
    (256, 1, 5, 1),
    (256, 1, 7, 1),
    (64, 1, 3, 1),
]  # channels, groups, kernel, stride


def soil() -> None:
    """Leave NaN in the memory that is given out next."""
    kept = [torch.full((2**power,), float("nan"), dtype=torch.bfloat16) for power in range(8, 22) for _ in range(2)]
    del kept


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_outputs_and_gradients_are_those_of_float32(kind: tuple[int, int, int, int]) -> None:
    channels, groups, kernel, stride = kind
    torch.manual_seed(0)
    module = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=groups)
    exact = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=groups)
    exact.load_state_dict(module.state_dict())
    with torch.no_grad():
        exact.weight.copy_(module.weight.bfloat16())
    for height, width in MAPS:
        x_Bchw = torch.randn(4, channels, height, width).bfloat16().contiguous(memory_format=torch.channels_last)
        g_Bchw = torch.randn_like(exact(x_Bchw.float())).bfloat16()
        expected = results(exact, x_Bchw.float(), g_Bchw.float(), autocast=False)
        found = results(module, x_Bchw, g_Bchw, autocast=True)
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours.float() - theirs).abs().max() <= 0.02 * theirs.abs().max(), (height, width)


def results(module: nn.Conv2d, x_Bchw: Tensor, g_Bchw: Tensor, *, autocast: bool) -> list[Tensor]:
    """The output, and the gradients of input and weight."""
    x_Bchw = x_Bchw.clone().requires_grad_()
    soil()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), Float32Convolutions():
        y_Bchw = module(x_Bchw)
    assert y_Bchw.dtype == (torch.bfloat16 if autocast else torch.float32)
    soil()
    return [y_Bchw.detach(), *torch.autograd.grad(y_Bchw, (x_Bchw, module.weight), g_Bchw)]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        ((4, 2), 3, 2, 1, True),  # one place in the width
        ((6, 4), 3, 2, 0, True),  # the same, padded by the caller
        ((4, 3), 3, 2, 1, False),
        ((8, 4), 3, 1, 1, False),
        ((8, 1), 3, 1, 1, True),  # taps at the sides see padding alone
        ((8, 2), 5, 1, 2, True),
        ((8, 3), 5, 1, 2, False),
        ((1, 8), 3, 1, "same", True),
        ((1, 1), 1, 2, 0, False),  # a kernel of one place sees no padding
        ((16, 8), 7, 2, 3, False),
    ],
)
def test_which_maps_are_small(size: tuple[int, int], kernel: int, stride: int, padding: int | str, expected: bool) -> None:
    x_Bchw, weight = torch.empty(1, 1, *size), torch.empty(1, 1, kernel, kernel)
    assert small(x_Bchw, weight, None, stride, padding) is expected
    assert small(x_Bchw, weight, stride=(stride, stride), padding=padding if isinstance(padding, str) else (padding,)) is expected


def test_transposed_convolutions_too() -> None:
    torch.manual_seed(0)
    module = nn.ConvTranspose2d(256, 64, 3, stride=2, padding=1, output_padding=1)
    x_Bchw = torch.randn(4, 256, 4, 1)
    expected = module(x_Bchw)
    soil()
    with torch.autocast("cpu", torch.bfloat16), Float32Convolutions():
        found = module(x_Bchw)
    assert found.dtype == torch.bfloat16 and (found - expected).abs().max() <= 0.02 * expected.abs().max()
    assert small(x_Bchw, module.weight, None, 2, 1, transposed=True)
    assert not small(x_Bchw.expand(4, 256, 4, 2), module.weight, None, 2, 1, transposed=True)


@pytest.mark.parametrize(
    ("groups", "kernel", "stride", "expected"),
    [(16, 3, 2, True), (16, 5, 1, True), (16, 3, (1, 2), True), (16, 3, 1, False), (4, 5, 2, False), (1, 5, 2, False)],
)
def test_slow_gradients_are_computed_in_float32(groups: int, kernel: int, stride: int | tuple[int, int], expected: bool) -> None:
    """What reaches the convolution is seen by its graph: a float32 one has a conversion behind it."""
    module = nn.Conv2d(16, 16, kernel, stride, kernel // 2, groups=groups, bias=False)
    x_Bchw = torch.randn(2, 16, 16, 16)
    with torch.autocast("cpu", torch.bfloat16), Float32Convolutions():
        y_Bchw = module(x_Bchw)
        with torch.no_grad():
            unasked = slow(x_Bchw, module.weight, None, stride, kernel // 2, 1, groups)
    assert y_Bchw.dtype == torch.bfloat16 and y_Bchw.grad_fn is not None
    assert (y_Bchw.grad_fn.name() == "ToCopyBackward0") is expected and not unasked
    assert (y_Bchw - module(x_Bchw)).abs().max() <= 0.02 * y_Bchw.abs().max()

"""What a network does with an image's size, seen without computing anything."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distreid.common.errors import UserError

LARGE = (256, 256)  # an image in which every stage that halves its map still has something to halve


class Trace(NamedTuple):
    """What a forward pass shows of a network: the shape of its output, the (module, parameter) names that do not reach it, and
    of each convolution and pooling the height that comes in and goes out."""

    shape: torch.Size
    unused: list[tuple[str, str]]
    heights: dict[nn.Module, tuple[int, int]]


def trace(net: nn.Module, size: tuple[int, int]) -> Trace:
    """A forward pass of one image without computing anything: on the meta device, the network stays where it is."""
    heights: dict[nn.Module, tuple[int, int]] = {}
    kinds = (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        heights[module] = inputs[0].shape[2], output.shape[2]

    hooks = [module.register_forward_hook(note) for module in net.modules() if isinstance(module, kinds)]
    parameters = {name: torch.empty_like(p, device="meta", requires_grad=True) for name, p in net.named_parameters()}
    buffers = {name: torch.empty_like(b, device="meta") for name, b in net.named_buffers()}
    training = net.training
    try:
        with torch.enable_grad():
            x_BCHW = torch.empty(1, 3, *size, device="meta")
            output = torch.func.functional_call(net.eval(), dict(chain(parameters.items(), buffers.items())), (x_BCHW,))
            gradients = torch.autograd.grad(output.sum(), list(parameters.values()), allow_unused=True)
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    unused = [name.rpartition(".") for name, gradient in zip(parameters, gradients, strict=True) if gradient is None]
    return Trace(output.shape, [(module, own) for module, _, own in unused], heights)


def leave_last_stride_out(backbone: nn.Module, name: str, size: tuple[int, int]) -> None:
    """Let what halves the map for the last time keep its size, and see that this doubles it."""
    try:
        seen, size = trace(backbone, LARGE), LARGE
    except Exception:  # built for one size
        seen = trace(backbone, size)
    for module, (before, after) in seen.heights.items():
        if after == seen.shape[2] < before:
            module.stride = (1, 1)  # type: ignore[assignment]
            if isinstance(module, nn.AvgPool2d) and module.padding == 0:
                module.kernel_size = 1  # in a shortcut, where timm has none at stride 1
    try:
        height, width = trace(backbone, size).shape[2:]
    except Exception:  # branches that no longer have the same size
        height, width = seen.shape[2:]
    if (height, width) != (2 * seen.shape[2], 2 * seen.shape[3]):
        raise UserError(f"model.last_stride=1: {name} has no last stride that can be left out; use model.last_stride=2")

"""Convolutions in bfloat16 on CPUs: those that oneDNN computes wrongly or very slowly are computed in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Float32Convolutions(TorchFunctionMode):
    """Within autocast to bfloat16 on a CPU: some convolutions in float32, whichever module calls them.

    Those of :func:`small` maps, because they are wrong. With torch 2.15's oneDNN, on CPUs with AVX512-BF16 and with AMX, what these
    compute depends on uninitialised memory: gradients of weights that see padding alone; with AMX also outputs of strided kernels,
    where they are one column wide. Images of 32 pixels width on a ResNet were enough for NaN within an epoch. Maps so small cost
    little in float32.

    Where gradients are wanted also those that are :func:`slow`: their gradients took 3 to 29 times as long in bfloat16 as in
    float32, a step of EfficientNet-Lite0 2.4 times as long, with this 0.8 times (AMD EPYC with AVX512-BF16).
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given, transposed = dict(kwargs or {}), func is torch.conv_transpose2d
        known = (transposed or func is torch.conv2d) and torch.is_autocast_enabled("cpu")
        if not known or not (small(*args, **given, transposed=transposed) or (not transposed and slow(*args, **given))):
            return func(*args, **given)
        with torch.autocast("cpu", enabled=False):
            found = func(*map(_float32, args), **{name: _float32(value) for name, value in given.items()})
        return found.to(torch.get_autocast_dtype("cpu"))


def small(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    *others: Any,
    transposed: bool = False,
    **named: Any,
) -> bool:
    """Whether a tap of the kernel may see padding alone, or a strided kernel has one place only, in height or width.

    Args:
        input: [B, c, h, w]. weight: [..., kh, kw]. The others as :func:`torch.conv2d` and :func:`torch.conv_transpose2d` take them;
            dilation is taken for 1, the padding "same" for half of the kernel.
    """
    for axis in (-2, -1):
        n, k, s = input.shape[axis], weight.shape[axis], _of(stride, axis)
        around = (k - 1 if padding == "same" else 0) if isinstance(padding, str) else 2 * _of(padding, axis)
        places = n if transposed else (n + around - k) // s + 1
        if k > 1 and (n <= k // 2 or (s > 1 and places == 1)):
            return True
    return False


def slow(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> bool:
    """Whether gradients go through a depthwise kernel that is strided or wider than three; arguments of :func:`torch.conv2d`."""
    depthwise = groups > 1 and groups == input.shape[-3]
    awkward = any(_of(stride, axis) > 1 or weight.shape[axis] > 3 for axis in (-2, -1))
    return depthwise and awkward and torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)


def _of(value: int | tuple[int, ...], axis: int) -> int:
    return value if isinstance(value, int) else value[axis if len(value) > 1 else 0]


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value

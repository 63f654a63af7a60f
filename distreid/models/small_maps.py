"""Convolutions of small maps in bfloat16 on CPUs: oneDNN's are wrong, so they are computed in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Float32SmallMaps(TorchFunctionMode):
    """Within autocast to bfloat16 on a CPU: convolutions of :func:`small` maps in float32, whichever module calls them.

    With torch 2.15's oneDNN, on CPUs with AVX512-BF16 and with AMX, what these compute depends on uninitialised memory: gradients
    of weights that see padding alone; with AMX also outputs of strided kernels, where they are one column wide. Images of 32
    pixels width on a ResNet were enough for NaN within an epoch. Maps so small cost little in float32.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given, known = dict(kwargs or {}), func in (torch.conv2d, torch.conv_transpose2d)
        if not (known and torch.is_autocast_enabled("cpu") and small(*args, **given, transposed=func is torch.conv_transpose2d)):
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


def _of(value: int | tuple[int, ...], axis: int) -> int:
    return value if isinstance(value, int) else value[axis if len(value) > 1 else 0]


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value

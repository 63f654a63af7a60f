"""A CUDA device that computes nothing: whole training runs on a machine without a GPU, and what in them would let a host wait.

torch's fake tensors know shapes, types and devices, and refuse what depends on data (``nonzero``, ``item``) or mixes two devices.
What they lack on a machine without a driver is made up for here: autograd's engine asks for a CUDA context, so the nodes of the
graph are called one by one; ``Module.to`` swaps what cannot be swapped; the fused optimisers have no fake form.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Copy:
    """From the host to the device. ``waits``: the host stands still until it is done."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    waits: bool


@dataclass
class Watch:
    """What passed from the host to the fake device. To bring anything back is an error: the host would wait."""

    copies: list[Copy] = field(default_factory=list)


class _Watching(TorchDispatchMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.__name__.partition(".")[0]
        if name.startswith("_fused_"):
            devices = {str(leaf.device) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            assert devices == {"cuda:0"}, f"{name} on {devices}"
            return None
        if name in ("_to_copy", "copy_"):
            self._copied(name, args, kwargs)
        return func(*args, **kwargs)

    def _copied(self, name: str, args: Any, kwargs: Any) -> None:
        if name == "copy_":
            target, source, non_blocking = args[0].device.type, args[1], kwargs.get("non_blocking", args[2:] == (True,))
        else:
            source, non_blocking = args[0], kwargs.get("non_blocking", False)
            target = torch.device(kwargs.get("device") or source.device).type
        if (source.device.type, target) == ("cpu", "cuda"):
            self._watch.copies.append(Copy(tuple(source.shape), source.dtype, not non_blocking))
        assert (source.device.type, target) != ("cuda", "cpu"), f"a step brings {tuple(source.shape)} back from the device"


@contextlib.contextmanager
def fake_cuda() -> Iterator[Watch]:
    """All tensors are fake within, and "cuda" is a device."""
    watch = Watch()
    with (
        mock.patch.object(nn.Module, "_apply", _apply),
        mock.patch.object(torch.autograd, "backward", backward),
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        mock.patch("torch.cuda.is_bf16_supported", lambda *_, **__: True),
        FakeTensorMode(allow_non_fake_inputs=True),
        _Watching(watch),
    ):
        yield watch


class NoLooks(TorchDispatchMode):
    """On real tensors of any device, for what a fake one cannot run: asking what a tensor holds is an error."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2"), f"{name} lets the host wait"
        if name in ("index", "index_put", "index_put_"):
            assert not any(index is not None and index.dtype == torch.bool for index in args[1]), "a mask lets the host wait"
        return func(*args, **(kwargs or {}))


def _apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """``Module.to`` by new parameters in place of swapped ones."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else function(buffer)
    return module


def backward(loss: Tensor, *_: Any, **__: Any) -> None:
    """``loss.backward()``, node by node: each when the gradients of all that follows it are there."""
    root = loss.grad_fn
    assert root is not None
    missing, found = defaultdict[Any, int](int), [root]
    for node in found:  # grows as it goes
        for earlier, _ in node.next_functions:
            if earlier is not None:
                missing[earlier] += 1
                if missing[earlier] == 1:
                    found.append(earlier)
    gradients: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    gradients[root][0], ready = torch.ones_like(loss), [root]
    with torch.no_grad():
        while ready:
            node = ready.pop()
            given = _as_expected(node, gradients.pop(node, {}))
            if hasattr(node, "variable"):
                _accumulate(node.variable, given[0])
                continue
            passed = node(*given) if any(gradient is not None for gradient in given) else [None] * len(node.next_functions)
            passed = passed if isinstance(passed, tuple | list) else (passed,)
            for (earlier, place), gradient in zip(node.next_functions, passed, strict=True):
                if earlier is None:
                    continue
                if gradient is not None:
                    before = gradients[earlier].get(place)
                    gradients[earlier][place] = gradient if before is None else before + gradient
                missing[earlier] -= 1
                if not missing[earlier]:
                    ready.append(earlier)


def _as_expected(node: Any, given: dict[int, Tensor]) -> list[Tensor | None]:
    """As the engine hands gradients on: of the shape and type of what they belong to, on its device."""
    expected: list[Tensor | None] = []
    for place, output in enumerate(node._input_metadata):
        gradient = given.get(place)
        if gradient is not None:
            assert gradient.device == output.device, f"{node.name()}: a gradient on {gradient.device} for {output.device}"
            gradient = gradient.sum_to_size(output.shape).to(output.dtype)
        expected.append(gradient)
    return expected


def _accumulate(parameter: Tensor, gradient: Tensor | None) -> None:
    if gradient is not None:
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

"""What a computation costs, followed operation by operation: floating-point work, bytes moved, memory.

It works on tensors without data (torch's FakeTensorMode) as well as on real ones: only shapes are looked at.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.flop_counter import flop_registry, shape_wrapper

KNOWN = 100_000  # elements of the largest tensor whose values are followed beside its shape
HALF = (torch.bfloat16, torch.float16)
INDEXING = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_, torch.ops.aten._index_put_impl_)
FACTORIES = (torch.ops.aten.arange, torch.ops.aten.zeros, torch.ops.aten.ones, torch.ops.aten.full)


def convolution_backward_flops(gradient_shape: Any, x_shape: Any, w_shape: Any, *others: Any, **_: Any) -> int:
    """Of a convolution's two gradients, each as many as the convolution itself.

    Torch's own formula takes no notice of groups: the weights' gradient of a depthwise layer counts C times too often.
    """
    transposed, mask = others[4], others[7]
    outputs = math.prod(x_shape if transposed else gradient_shape)
    return 2 * outputs * math.prod(w_shape[1:]) * (int(mask[0]) + int(mask[1]))


FORMULAS = {**flop_registry, torch.ops.aten.convolution_backward: shape_wrapper(convolution_backward_flops)}


@dataclass(frozen=True)
class Operation:
    """One call of a kernel: floating-point operations (a multiply-add counts as two), bytes read and written, number format."""

    flops: int
    moved: int
    half: bool


@dataclass
class Work:
    """Operations and how often each is called."""

    calls: Counter[Operation] = field(default_factory=Counter)

    @property
    def flops(self) -> int:
        return sum(operation.flops * times for operation, times in self.calls.items())

    @property
    def moved(self) -> int:
        return sum(operation.moved * times for operation, times in self.calls.items())


class _Block:
    """A piece of memory while it lives."""

    def __init__(self, size: int) -> None:
        self.size, self.gradient = size, False


class Counting(TorchDispatchMode):
    """Counts while it is entered; the memory of tensors made before is not seen.

    Where a fake tensor is asked for its values (a boolean mask, ``int(x)``), those of small integer tensors that the host made are
    known, for they are computed beside; of any other, every element is taken to be chosen, and every number to be 1.

    Attributes:
        live: bytes of the tensors that live now; gradients: those of them that :meth:`follow` found in a parameter's ``grad``.
        peak: the most that ``live`` was since :meth:`begin`; apart: the most that it was without the gradients, each of which
            counts as other memory until it is in its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()
        self.live = self.gradients = self.peak = self.apart = 0
        self._blocks: weakref.WeakKeyDictionary[Any, _Block] = weakref.WeakKeyDictionary()

    def begin(self) -> None:
        """Count work and peaks anew; what lives goes on living."""
        self.work, self.peak, self.apart = Work(), self.live, self.live - self.gradients

    def follow(self, parameters: Iterable[Tensor]) -> list[Any]:
        """Tell these parameters' gradients from other memory; gives the hooks, to be removed."""
        return [parameter.register_post_accumulate_grad_hook(self._mark) for parameter in parameters]

    def _mark(self, parameter: Tensor) -> None:
        block = self._blocks.get(parameter.grad.untyped_storage()) if parameter.grad is not None else None
        if block is not None and not block.gradient:
            block.gradient = True
            self.gradients += block.size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # asks for a tensor's device
            return func(*args, **kwargs)
        if func.namespace == "aten" and func._overloadpacket not in FORMULAS:
            with self:  # in inference mode a linear layer, say, comes as it is written
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        args = _without_masks(func, args)
        given = _tensors(args, kwargs)
        try:
            out = func(*args, **kwargs)
        except (DynamicOutputShapeException, DataDependentOutputException):
            out = _assumed(func, args, kwargs)
        made = _tensors(out)
        _follow_values(func, args, kwargs, given, made)
        self._count(func, args, kwargs, given, made, out)
        before = {id(tensor.untyped_storage()) for tensor in given}
        for tensor in made:
            if id(tensor.untyped_storage()) not in before:
                self._hold(tensor)
            if isinstance(tensor, FakeTensor):  # torch notes each one, and then ``Module.to`` refuses to exchange it
                converter, tensor.constant = tensor.fake_mode.fake_tensor_converter, None
                converter.tensor_memo.clear()
                converter.constant_storage_mapping.clear()
        return out

    def _count(self, func: Any, args: Any, kwargs: Any, given: list[Tensor], made: list[Tensor], out: Any) -> None:
        returns = func._schema.returns
        is_view = bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write
        if is_view or not given or "empty" in func.name():
            return
        formula = FORMULAS.get(func._overloadpacket)
        flops = int(formula(*args, **kwargs, out_val=out)) if formula is not None else 0
        moved = sum(x.numel() * x.element_size() for x in (*given, *(made or _written(func, args))))
        self.work.calls[Operation(flops, moved, any(x.dtype in HALF for x in (*given, *made)))] += 1

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._blocks:
            return
        block = self._blocks[storage] = _Block(storage.nbytes())
        weakref.finalize(storage, self._release, block).atexit = False
        self.live += block.size
        self.peak, self.apart = max(self.peak, self.live), max(self.apart, self.live - self.gradients)

    def _release(self, block: _Block) -> None:
        self.live -= block.size
        self.gradients -= block.size * block.gradient


def _tensors(*values: Any) -> list[Tensor]:
    return [value for value in tree_flatten(values)[0] if isinstance(value, Tensor)]


def _written(func: Any, args: Any) -> list[Tensor]:
    """What an operation without a result changes: the optimiser's, say."""
    pairs = zip(func._schema.arguments, args, strict=False)
    return _tensors([value for argument, value in pairs if argument.alias_info is not None and argument.alias_info.is_write])


def _value(tensor: Tensor) -> Tensor | None:
    """The values of a tensor, where they are known and few."""
    value = getattr(tensor, "known", None) if isinstance(tensor, FakeTensor) else tensor
    return value if value is not None and value.numel() <= KNOWN and not value.is_floating_point() else None


def _follow_values(func: Any, args: Any, kwargs: Any, given: list[Tensor], made: list[Tensor]) -> None:
    """Keep beside small integer tensors what a real run would hold in them."""
    fakes = [x for x in made if isinstance(x, FakeTensor)]
    if not fakes or any(x.is_floating_point() or x.numel() > KNOWN for x in made):
        return
    if any(_value(x) is None for x in given) or (not given and func._overloadpacket not in FACTORIES):
        values: list[Tensor | None] = [None] * len(made)
    else:
        with unset_fake_temporarily():
            values = list(_tensors(func(*tree_map_only(Tensor, _value, args), **tree_map_only(Tensor, _value, kwargs))))
    for fake, value in zip(made, values, strict=True):
        fake.known = value  # type: ignore[attr-defined]


def _without_masks(func: Any, args: Any) -> Any:
    """Indexing by a mask as indexing by the places that it chooses."""
    if func._overloadpacket not in INDEXING:
        return args
    places: list[Any] = []
    for index in args[1]:
        if index is None or index.dtype not in (torch.bool, torch.uint8) or not isinstance(args[0], FakeTensor):
            places.append(index)
            continue
        with unset_fake_temporarily():
            value = _value(index)
            chosen = (torch.ones(index.shape) if value is None else value).nonzero().unbind(1)
        places.extend(args[0].fake_mode.from_tensor(place) for place in chosen)
    return (args[0], places, *args[2:])


def _assumed(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation gives whose result's shape, or number, depends on values."""
    mode = next(x.fake_mode for x in _tensors(args, kwargs) if isinstance(x, FakeTensor))

    def value_or_ones(tensor: Tensor) -> Tensor:
        value = _value(tensor)
        return torch.ones(tensor.shape, dtype=tensor.dtype) if value is None else value

    with unset_fake_temporarily():
        out = func(*tree_map_only(Tensor, value_or_ones, args), **tree_map_only(Tensor, value_or_ones, kwargs))
    return tree_map_only(Tensor, mode.from_tensor, out)

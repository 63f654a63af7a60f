"""One optimisation step of a network, on one process or many: precision, gradient averaging, optimiser, learning rate."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distreid.errors import UserError
from distreid.runtime.team import Team


def learning_rate_factor(
    epoch: float, epochs: int, *, schedule: str, step_epochs: int, step_gamma: float, warmup_epochs: float
) -> float:
    """What the base learning rate is multiplied by at a (fractional) epoch of ``epochs``.

    ``step``: gamma ** floor(epoch / step_epochs). ``cosine``: from 1 to 0 over the epochs. Both rise linearly in the warm-up.
    """
    warmup = min(1.0, (epoch + 1e-9) / warmup_epochs) if warmup_epochs else 1.0
    if schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    return warmup * step_gamma ** int(epoch / step_epochs)


class Precision:
    """Number format and memory layout of the forward pass."""

    def __init__(self, name: str, device: torch.device, *, channels_last: bool = False, compile: bool = False) -> None:
        if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise UserError("runtime.precision=bf16: this GPU has no bf16; use fp32")
        self._device, self._bf16 = device, name == "bf16"
        self._channels_last, self.compile = channels_last, compile

    def place(self, model: nn.Module) -> nn.Module:
        model = model.to(self._device)
        return model.to(memory_format=torch.channels_last) if self._channels_last else model

    def layout(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.contiguous(memory_format=torch.channels_last if self._channels_last else torch.contiguous_format)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else contextlib.nullcontext()


class Engine:
    """A network wrapped for one stage of training, with its own optimiser.

    Args:
        model: already placed on the device; gradients are averaged over the team (DDP) when it has several processes. BatchNorm
            buffers stay per process within an epoch: :meth:`Team.average_buffers` brings them together.
        parameters: groups of ``{"params": [...], "lr": base rate}``; every other parameter is frozen for the stage, so that DDP
            waits for no gradient that never comes.
        factor: (fractional epoch) -> multiplier of the base rates.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: list[dict[str, Any]],
        factor: Callable[[float], float],
        team: Team,
        precision: Precision,
        *,
        optimizer: str = "sgd",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        trained = {id(p) for group in parameters for p in group["params"]}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        self._base = [float(group["lr"]) for group in parameters]
        self._factor, self._precision = factor, precision
        if optimizer == "sgd":
            self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
                parameters, momentum=momentum, weight_decay=weight_decay, fused=True
            )
        else:
            self.optimizer = torch.optim.AdamW(parameters, weight_decay=weight_decay, fused=True)
        forward: nn.Module = model
        if precision.compile:
            forward = torch.compile(forward)  # type: ignore[assignment]
        if team.world > 1:
            ids = [team.device.index] if team.device.type == "cuda" else None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # the keyword's successor is not in every torch we support
                forward = DistributedDataParallel(forward, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True)
        self._forward = forward

    def learning_rate(self, epoch: float) -> float:
        """Set the rates for a fractional epoch; returns the first group's."""
        factor = self._factor(epoch)
        for group, base in zip(self.optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * factor
        return self._base[0] * factor

    def forward(self, x_BCHW: Tensor, *args: Any) -> Any:
        with self._precision.autocast():
            return self._forward(self._precision.layout(x_BCHW), *args)

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

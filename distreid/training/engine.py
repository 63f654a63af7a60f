"""One optimisation step of a network, on one process or many: precision, gradient averaging, optimiser, learning rate."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from distreid.common.errors import UserError
from distreid.common.machine import choose, look, usable
from distreid.models.cpu_convolutions import Float32Convolutions
from distreid.training.process_group import ProcessGroup
from distreid.training.strategy import DDPStrategy, Groups, Strategy
from distreid.training.zero import ZeroStrategy


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
    """Number format and memory layout of the forward pass.

    fp32 is float32 to its last bit, for the whole process: torch's default lets cuDNN's convolutions round their inputs to TF32's
    10 bits of mantissa. With bf16 and fp16 what little is left in float32 stays as torch has it, and on a GPU cuDNN tries its
    kernels at the first batch of each size and keeps the fastest (images keep their size through a run); which one that is may
    differ in the last bits from run to run, so not with fp32.
    """

    def __init__(self, name: str, device: torch.device, *, channels_last: bool = False, compile: bool = False) -> None:
        if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise UserError("runtime.precision=bf16: this GPU has no bf16, not even emulated; use auto, fp16 or fp32")
        self._device, self._channels_last, self.compile = device, channels_last, compile
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        if name == "fp32":
            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.allow_tf32 = False  # the name that every torch we support has; it covers convolutions
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = name != "fp32"

    @classmethod
    def to_use(cls, name: str, device: torch.device, *, channels_last: bool | str) -> Precision:
        """For a trained network, perhaps not where it was trained: as it was trained if this machine has that in hardware."""
        machine = look()
        chosen = choose(machine, device.type, precision=name, channels_last=channels_last)
        return cls(usable(chosen.precision, machine, device.type), device, channels_last=chosen.channels_last)

    def place(self, model: nn.Module) -> nn.Module:
        model = model.to(self._device)
        return model.to(memory_format=torch.channels_last) if self._channels_last else model

    def layout(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.contiguous(memory_format=torch.channels_last if self._channels_last else torch.contiguous_format)

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """For the forward pass; gradients follow it."""
        if self.dtype == torch.float32:
            yield
            return
        with (
            torch.autocast(self._device.type, self.dtype),
            Float32Convolutions() if self._device.type == "cpu" else contextlib.nullcontext(),
        ):
            yield


class _Cast(nn.Module):
    """A network in a precision: autocast is entered inside, where no wrapper of a strategy can switch it off."""

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.network, self._precision = network, precision

    def forward(self, *args: Any) -> Any:
        with self._precision.autocast():
            return self.network(*args)


class Engine:
    """A network wrapped for one stage of training, with its own optimiser.

    Args:
        model: already placed on the device. It holds the trained weights after :meth:`end_epoch`.
        parameters: groups of ``{"params": [...], "lr": base rate}``; every other parameter is frozen for the stage, so that DDP
            waits for no gradient that never comes.
        factor: (fractional epoch) -> multiplier of the base rates.
        zero_stage: None for DDP, 0 to 3 for DeepSpeed.
        accumulate: :meth:`step` moves the weights at every so many calls, each with an equal part of the batch.
        clip: before each step the gradients' L2 norm over all parameters is brought down to this; 0: never.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Groups,
        factor: Callable[[float], float],
        team: ProcessGroup,
        precision: Precision,
        *,
        optimizer: str = "sgd",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        zero_stage: int | None = None,
        accumulate: int = 1,
        clip: float = 0.0,
    ) -> None:
        if precision.dtype == torch.float16 and team.device.type == "cpu":
            raise UserError("runtime.precision=fp16 trains on GPUs only; on CPUs use bf16 or fp32")
        trained = {id(p) for group in parameters for p in group["params"]}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        self._base = [float(group["lr"]) for group in parameters]
        self.groups = len(parameters)
        self._factor, self._precision, self._team = factor, precision, team
        self._accumulate, self._passes = accumulate, 0

        def make(groups: Groups) -> torch.optim.Optimizer:
            if optimizer == "sgd":
                return torch.optim.SGD(
                    groups, momentum=momentum, dampening=0.0, nesterov=False, weight_decay=weight_decay, fused=True
                )
            # The values of its paper (Loshchilov and Hutter 2019); a group may bring its own.
            return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, amsgrad=False, weight_decay=weight_decay, fused=True)

        def wrap(module: nn.Module) -> nn.Module:
            return _Cast(torch.compile(module) if precision.compile else module, precision)  # type: ignore[arg-type]

        self._strategy: Strategy
        if zero_stage is None:
            scaled = precision.dtype == torch.float16
            self._strategy = DDPStrategy(model, parameters, make, wrap, team, scaled=scaled, clip=clip)
        else:
            self._strategy = ZeroStrategy(model, parameters, make, wrap, team, stage=zero_stage, accumulate=accumulate, clip=clip)
        self._buffers = list(self._strategy.module.buffers())
        self._before: list[Tensor] = []
        self._moved: list[Tensor] = []

    def learning_rate(self, epoch: float) -> float:
        """Set the rates for a fractional epoch; returns the first group's."""
        factor = self._factor(epoch)
        for group, base in zip(self._strategy.optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * factor
        return self._base[0] * factor

    def forward(self, x_BCHW: Tensor, *args: Any) -> Any:
        if self._accumulate > 1 and self._passes == 0:
            self._before = [buffer.clone() for buffer in self._buffers]
            self._moved = [torch.zeros_like(buffer) for buffer in self._buffers]
        return self._strategy.forward(self._precision.layout(x_BCHW), *args, last=self._passes + 1 == self._accumulate)

    def step(self, loss: Tensor) -> None:
        """Gradients of this loss; the optimiser's step when they are all there."""
        self._passes += 1
        last = self._passes == self._accumulate
        self._strategy.backward(loss / self._accumulate, last=last)
        self._rewind_buffers(last)
        if last:
            self._strategy.step()
            self._passes = 0

    def _rewind_buffers(self, last: bool) -> None:
        """Let every part of a batch move BatchNorm's running statistics from the same start, to the mean of where they end."""
        if self._accumulate == 1:
            return
        for buffer, before, moved in zip(self._buffers, self._before, self._moved, strict=True):
            moved += buffer
            if not last:
                buffer.copy_(before)
            elif buffer.is_floating_point():  # the count of batches stays as the last part left it
                buffer.copy_(moved / self._accumulate)

    def end_epoch(self, weight: float = 1.0) -> None:
        """Bring the processes together: BatchNorm's buffers are averaged, and the model holds the trained weights.

        ``weight`` is this process's part of the batches, relative to an equal part.
        """
        self._team.average_buffers(self._strategy.module, weight)
        self._strategy.gather()

    def close(self) -> None:
        """After the stage's last epoch."""
        self._strategy.close()

    def optimizer_state(self) -> dict[str, Any]:
        """For a checkpoint, in one form for all strategies. All processes must call it."""
        return self._strategy.optimizer_state()

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        self._strategy.load_optimizer_state(state)

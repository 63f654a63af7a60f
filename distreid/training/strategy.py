"""How gradients, optimiser and weights are shared among the processes: DDP here, DeepSpeed in :mod:`distreid.training.zero`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distreid.training.process_group import ProcessGroup

Groups = list[dict[str, Any]]
MakeOptimizer = Callable[[Groups], torch.optim.Optimizer]


class Strategy(Protocol):
    """One network with its optimiser. Every method is called by all processes together.

    Attributes:
        module: the network that is trained, whole where it computes; its buffers are this process's own.
        optimizer: its ``param_groups`` hold the learning rates, in the order of the groups given.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer

    def forward(self, *args: Any, last: bool) -> Any:
        """``last``: whether the optimiser's step follows, so that gradients are due to be averaged."""
        ...

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add to the gradients."""
        ...

    def step(self) -> None:
        """Move the weights by the averaged gradients, and forget the gradients."""
        ...

    def gather(self) -> None:
        """Bring weights and buffers of :attr:`module` into the model that the strategy was made with."""
        ...

    def close(self) -> None:
        """The stage is over: let go of what the strategy holds."""
        ...

    def optimizer_state(self) -> dict[str, Any]:
        """Whole, in the form of torch's own ``Optimizer.state_dict``, whatever the strategy."""
        ...

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Continue from what any strategy's :meth:`optimizer_state` gave."""
        ...


class DDPStrategy:
    """Every process holds weights and optimiser whole and averages the gradients; a single process just trains.

    Args:
        wrap: what is laid around the model before it is called (autocast, torch.compile).
        scaled: scale the loss up, as float16 gradients need (torch's GradScaler).
        clip: the gradients' norm over all trained weights is brought down to this; 0: never.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Groups,
        make: MakeOptimizer,
        wrap: Callable[[nn.Module], nn.Module],
        team: ProcessGroup,
        *,
        scaled: bool,
        clip: float,
    ) -> None:
        self.module, self.optimizer, self._clip = model, make(groups), clip
        self._scaler = torch.amp.GradScaler(
            team.device.type, enabled=scaled, init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000
        )
        self._forward = wrap(model)
        if team.averages:
            ids = [team.device.index] if team.device.type == "cuda" else None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # the keyword's successor is not in every torch we support
                self._forward = DistributedDataParallel(
                    self._forward,
                    device_ids=ids,
                    init_sync=True,  # all start from the first process's weights
                    broadcast_buffers=False,  # `ProcessGroup.average_buffers` brings them together, once an epoch
                    find_unused_parameters=False,  # what a stage does not train is frozen
                    static_graph=False,
                    gradient_as_bucket_view=True,
                )  # bucket_cap_mb stays unset: buckets of 1 MiB, then 25; a number would make the first one as large

    def forward(self, *args: Any, last: bool) -> Any:
        apart = isinstance(self._forward, DistributedDataParallel) and not last
        with self._forward.no_sync() if apart else contextlib.nullcontext():  # type: ignore[operator]
            return self._forward(*args)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        self._scaler.scale(loss).backward()

    def step(self) -> None:
        if self._clip:
            self._scaler.unscale_(self.optimizer)
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self._clip, norm_type=2.0, error_if_nonfinite=False)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def gather(self) -> None:
        """Nothing to do: the module is the model."""

    def close(self) -> None:
        """Nothing to do."""

    def optimizer_state(self) -> dict[str, Any]:
        scaler = self._scaler.state_dict()
        return {**self.optimizer.state_dict(), **({"scaler": scaler} if scaler else {})}

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
        if state.get("scaler"):
            self._scaler.load_state_dict(state["scaler"])

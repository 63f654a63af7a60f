"""DeepSpeed's ZeRO (Rajbhandari et al., SC 2020) behind :class:`distreid.training.strategy.Strategy`."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from distreid.common.errors import UserError
from distreid.training.process_group import ProcessGroup
from distreid.training.strategy import Groups, MakeOptimizer
from distreid.training.zero_config import zero_config

TESTED = ">=0.19.8,<0.20"  # a new default can change what is trained: 0.19.8 clips gradients unless told otherwise


class ZeroStrategy:
    """DeepSpeed trains a copy of the model, so that neither its hooks nor its partitioned parameters outlive the stage.

    Stage 0 shares nothing, 1 the optimiser's state, 2 also the gradients, 3 also the copy's weights. Weights stay float32 and the
    forward pass is autocast just as with DDP, so both compute the same up to the order of sums.

    Args:
        accumulate: backward passes before each step.
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
        stage: int,
        accumulate: int,
        clip: float,
    ) -> None:
        self._deepspeed, self._stage, self._model = _load(team.device), stage, model
        self.module = copy.deepcopy(model)
        twin = {id(ours): theirs for ours, theirs in zip(model.parameters(), self.module.parameters(), strict=True)}
        groups = [{**group, "params": [twin[id(p)] for p in group["params"]]} for group in groups]
        self._groups = [group["params"] for group in groups]
        self._inner = make(groups)
        self._form = self._inner.state_dict()["param_groups"]  # before DeepSpeed puts flat partitions in the parameters' place
        self._engine, self.optimizer, *_ = self._deepspeed.initialize(
            model=wrap(self.module),
            optimizer=self._inner,
            config=zero_config(stage, accumulate=accumulate, clip=clip),
            dist_init_required=False,
        )

    def forward(self, *args: Any, last: bool) -> Any:
        if self.module.training != self._model.training:
            self.module.train(self._model.training)
        return self._engine(*args)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        self._engine.backward(loss, scale_wrt_gas=False)
        if not last:
            self._engine.step()  # counts the pass; moves nothing yet

    def step(self) -> None:
        self._engine.step()

    def gather(self) -> None:
        with torch.no_grad():
            for ours, theirs in zip(self._model.parameters(), self.module.parameters(), strict=True):
                with self._whole(theirs):
                    ours.copy_(theirs)
            for buffer, trained in zip(self._model.buffers(), self.module.buffers(), strict=True):
                buffer.copy_(trained)

    def close(self) -> None:
        self._engine.destroy()

    def _whole(self, parameter: nn.Parameter) -> Any:
        return self._deepspeed.zero.GatheredParameters([parameter], enabled=self._stage == 3)

    def optimizer_state(self) -> dict[str, Any]:
        rates = [group["lr"] for group in self.optimizer.param_groups]
        form = [{**group, "lr": rate} for group, rate in zip(self._form, rates, strict=True)]
        if self._stage == 0:
            return {"state": self._inner.state_dict()["state"], "param_groups": form}
        self._link()
        names, steps = self._state_names()
        whole = self._deepspeed.utils.safe_get_full_optimizer_state
        state = {
            number: {**({"step": torch.tensor(steps)} if steps else {}), **{name: whole(p, name).cpu() for name in names}}
            for number, p in enumerate(self._parameters())
        }
        return {"state": state if names else {}, "param_groups": form}

    def _state_names(self) -> tuple[list[str], float]:
        """The names of the optimiser's per-weight state, and the steps that it counts, the same for all weights."""
        names: set[str] = set()
        steps = 0.0
        for partition in self._partitions():
            for name, value in self._inner.state.get(partition, {}).items():
                if name == "step":
                    steps = float(value)
                elif isinstance(value, Tensor):
                    names.add(name)
        return sorted(names), steps

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        if self._stage == 0:
            self._inner.load_state_dict(state)
            return
        entries = state["state"]
        if not entries:
            return
        names = [name for name, value in entries[0].items() if name != "step" and isinstance(value, Tensor)]
        for partition in self._partitions():
            own = self._inner.state[partition]
            if "step" in entries[0]:
                own["step"] = entries[0]["step"].clone().to(partition.device)
            for name in names:
                own[name] = torch.zeros_like(partition)
        self._link()
        put = self._deepspeed.utils.safe_set_full_optimizer_state
        for number, parameter in enumerate(self._parameters()):
            for name in names:
                put(parameter, entries[number][name].to(parameter.device), name)

    def _link(self) -> None:
        """Let DeepSpeed find each weight's state: by itself it looks once, before the second group of parameters has any."""
        if self._stage == 3:
            return  # looks each time
        link = _needed(self._deepspeed.utils, "lazy_init_hp_params_optimizer_state")
        for parameters, partition in zip(self._groups, self._partitions(), strict=True):
            link(parameters, partition, self._inner.state)

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for parameters in self._groups for parameter in parameters]

    def _partitions(self) -> list[Tensor]:
        """This process's float32 flat parts of the weights, the keys of the optimiser's state."""
        if self._stage < 3:
            return [group["params"][0] for group in self._inner.param_groups]
        return list(_needed(self.optimizer, "fp32_partitioned_groups_flat"))  # its API has no way to make a state, only to set one


def _needed(owner: Any, name: str) -> Any:
    """What DeepSpeed does not promise to keep, tried with the versions of :data:`TESTED`.

    Raises:
        UserError: this version has it no longer.
    """
    try:
        return getattr(owner, name)
    except AttributeError:
        raise _other_version(f"which has no {name}") from None


def _other_version(why: str) -> UserError:
    return UserError(
        f"runtime.strategy=deepspeed does not work with DeepSpeed {version('deepspeed')}, {why}: pip install 'deepspeed{TESTED}'"
    )


def _load(device: torch.device) -> ModuleType:
    """Import DeepSpeed for this device.

    Raises:
        UserError: it is not installed, its settings are not those that we know, or there is no process group, as in a run
            without Ray.
    """
    os.environ.setdefault("DS_ACCELERATOR", device.type)  # read once, on import
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))  # Ray and torchrun set it
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    try:
        import deepspeed
    except ModuleNotFoundError as error:
        if error.name != "deepspeed":
            raise
        raise UserError(
            "runtime.strategy=deepspeed needs DeepSpeed, which is not installed: pip install 'distreid[deepspeed]'"
        ) from None
    from packaging.specifiers import SpecifierSet  # comes with DeepSpeed

    if version("deepspeed") not in SpecifierSet(TESTED):
        raise _other_version("whose defaults were not compared with ours")
    if not dist.is_initialized():
        raise UserError("runtime.strategy=deepspeed needs Ray workers: set runtime.workers to 1 or more")
    deepspeed.utils.logger.setLevel(logging.ERROR)
    # Its shared-memory collectives for CPUs would be compiled here and now, for minutes, and change no result.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=False, verbose=False)
    return deepspeed

"""What every method's network can do: give the features that are matched, and take a checkpoint's weights."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from distreid.common.errors import UserError
from distreid.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Colour

Module = TypeVar("Module", bound=nn.Module)


class ReIDNetwork(nn.Module, ABC):
    """A network from whose images' features people are matched.

    Attributes:
        mean, std: what the loader normalises images by, of each channel, for pixels in [0, 1].
        note: for the user, what was recognised in a file that weights came from; empty without one.
    """

    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD
    note = ""
    unsaid = (IMAGENET_MEAN, IMAGENET_STD)  # by what images were normalised for a checkpoint of 0.1.0, which does not say

    @property
    @abstractmethod
    def feature_channels(self) -> int:
        """c of :meth:`features`."""

    @abstractmethod
    def features(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images to what is clustered and matched, float32 [B, c], not normalised."""

    def grow(self, weights: Mapping[str, Tensor]) -> None:
        """Make the parts that a checkpoint's weights have and a new network lacks."""

    def with_own_parts(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Another run's weights, from which this network's run begins, with what it has beside that run's parts, and without what
        it lacks."""
        return dict(weights)


def copy_of(module: Module) -> Module:
    """A module of the same values with tensors of its own, trained where the module's are; on tensors without data too, which
    copy.deepcopy does not copy."""
    tensors: dict[int, Any] = {id(p): nn.Parameter(p.detach().clone(), p.requires_grad) for p in module.parameters()}
    tensors |= {id(buffer): buffer.detach().clone() for buffer in module.buffers()}
    return copy.deepcopy(module, tensors)


def parameters_of(modules: Iterable[nn.Module | None]) -> list[nn.Parameter]:
    """Each parameter once, in order."""
    return list({id(p): p for module in modules if module is not None for p in module.parameters()}.values())


def load_weights(model: ReIDNetwork, saved: Mapping[str, Any], path: Path) -> None:
    """Load a checkpoint's weights, making the parts that they belong to, and the normalisation that they were trained with.

    Raises:
        UserError: they are another network's.
    """
    weights: Mapping[str, Tensor] = saved.get("model", {})
    model.grow(weights)
    model.mean, model.std = saved.get("normalisation", model.unsaid)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: the weights do not fit the configured model ({reason})") from None

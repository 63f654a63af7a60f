"""What every method's network can do: give the features that are matched, and take a checkpoint's weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from distreid.errors import UserError


class ReIDNetwork(nn.Module, ABC):
    """A network from whose images' features people are matched."""

    @property
    @abstractmethod
    def feature_channels(self) -> int:
        """c of :meth:`features`."""

    @abstractmethod
    def features(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images to what is clustered and matched, float32 [B, c], not normalised."""

    def grow(self, weights: Mapping[str, Tensor]) -> None:
        """Make the parts that a checkpoint's weights have and a new network lacks."""


def load_weights(model: ReIDNetwork, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load a checkpoint's weights, making the parts that they belong to.

    Raises:
        UserError: they are another network's.
    """
    model.grow(weights)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: the weights do not fit the configured model ({reason})") from None

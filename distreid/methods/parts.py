"""The parts that are no paper's, for the specs of the methods that have them. No import here may bring torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distreid.config import PARTS as ALL

if TYPE_CHECKING:
    from distreid.models import ReIDNetwork

__all__ = ["ALL", "matching"]


def matching(model: ReIDNetwork, name: str) -> bool:
    """:attr:`~distreid.methods.registry.MethodSpec.matching` of an :class:`~distreid.models.EncoderNetwork`."""
    from distreid.models import EncoderNetwork

    assert isinstance(model, EncoderNetwork)
    return model.matches_by(name)

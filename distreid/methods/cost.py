"""What a configuration's training costs, counted on tensors without data: the very networks and losses that would run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from distreid.common.errors import UserError
from distreid.config import Config
from distreid.methods.networks import build_model
from distreid.methods.registry import find
from distreid.models import ReIDNetwork


@dataclass(frozen=True)
class Stage:
    """A stretch of training.

    Attributes:
        epochs: of it; an epoch is a pass over the set (DAAM: the target, EDAAN: the source) in steps of `own` images of it.
        batch: images that a step sees.
        flops: of a whole step, forward and backward: multiply-adds count as two.
        kept: values that wait in memory for the backward pass, for each image of the batch.
    """

    name: str
    epochs: int
    own: int
    batch: int
    flops: float
    kept: float

    def steps(self, images: int) -> int:
        return max(1, images // self.own) * self.epochs


@dataclass(frozen=True)
class Cost:
    """forward: FLOPs of an image's features. parameters: those that train. channels: D, the feature's dimension."""

    stages: tuple[Stage, ...]
    forward: float
    parameters: int
    channels: int


def cost_of(config: Config, identities: int = 751) -> Cost:
    """Count a configuration.

    Args:
        identities: N_ids, the classes of the heads, a hundredth of the work (default: Market-1501's).

    Raises:
        UserError: the backbone cannot be built, or the method does not say what it costs.
    """
    count_stages = find(config.method).cost
    if count_stages is None:
        raise UserError(f"method={config.method} does not say what it costs (MethodSpec.cost)")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, weights="none"))
    with torch.device("meta"):
        model = build_model(config, identities, weights=False)
        stages = count_stages(model, config)
        image_1CHW = torch.empty(1, 3, config.input.height, config.input.width)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model.eval().features(image_1CHW)
    trained = sum(parameter.numel() for parameter in model.parameters())
    return Cost(stages, float(counter.get_total_flops()), trained, model.feature_channels)


def count(model: ReIDNetwork, step: Callable[[], None]) -> tuple[int, int]:
    """FLOPs of a step, and the values that it keeps for its backward pass; each storage once, weights left out."""
    weights = {id_of(parameter) for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors are held, so that no storage of the step is counted in another's place

    def keep(tensor: Tensor) -> Tensor:
        if id_of(tensor) not in weights:
            kept[id_of(tensor)] = tensor
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return counter.get_total_flops(), sum(tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in kept.values())


def id_of(tensor: Tensor) -> int:
    """Of its storage: tensors without data all have the address 0."""
    return tensor.untyped_storage()._cdata

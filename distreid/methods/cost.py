"""What a configuration's training costs, counted on tensors without data: the very networks and losses that would run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from distreid.config import Config
from distreid.methods.edaan.algorithm import frozen
from distreid.methods.edaan.objectives import DiscriminatorSide, GeneratorSide, Labelled, ReIDSide
from distreid.methods.networks import build_model
from distreid.models import EDAAN, DAAMNet


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
        UserError: the backbone cannot be built.
    """
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, weights="none"))
    with torch.device("meta"):
        model = build_model(config, identities, weights=False)
        stages = _edaan_stages(model, config) if isinstance(model, EDAAN) else (_daam_stage(model, config),)
        image_1CHW = torch.empty(1, 3, config.input.height, config.input.width)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model.eval().features(image_1CHW)
    trained = sum(parameter.numel() for parameter in model.parameters())
    return Cost(stages, float(counter.get_total_flops()), trained, model.feature_channels)


def _daam_stage(model: DAAMNet, config: Config) -> Stage:
    how, group = config.adapt, config.model.batchnorm_group
    x_BCHW = torch.empty(group, 3, config.input.height, config.input.width)
    # All of the source: one head over the whole batch costs what two heads over its halves do.
    domain_B = torch.zeros(group, dtype=torch.int64, device="cpu")

    def step() -> None:
        output = model.train()(x_BCHW, domain_B)
        logits = [output.source_logits_SN, output.domain_logits_B2]
        torch.stack([scores.sum() for scores in logits if scores is not None]).sum().backward()

    flops, kept = _count(model, step)
    return Stage("train", how.epochs, how.batch_size // 2, how.batch_size, flops / group * how.batch_size, kept / group)


def _edaan_stages(model: EDAAN, config: Config) -> tuple[Stage, ...]:
    # Mining the metric loss's tuples depends on data, and costs nothing beside the networks.
    how = dataclasses.replace(config.edaan, metric="none")
    group, size = how.group, (3, config.input.height, config.input.width)
    labelled = Labelled(torch.zeros(group, dtype=torch.int64), torch.ones(group * how.views, model.head.HIDDEN, dtype=torch.bool))
    joint = how.variant == "edaan"

    def translate() -> None:
        generators = GeneratorSide(model.train(), how, joint=joint, masked=False)
        is_source_B = torch.arange(2 * group, device="cpu") < group
        with frozen(model.discriminators()):
            terms, seen = generators(torch.empty(2 * group, *size), is_source_B, labelled)
            torch.stack(list(terms.values())).sum().backward()
        DiscriminatorSide(model, how)(*seen).backward()

    def identify() -> None:
        terms = ReIDSide(model.train(), how)(torch.empty(group, *size), labelled)
        torch.stack(list(terms.values())).sum().backward()

    def stage(name: str, epochs: int, sides: int, step: Callable[[], None]) -> Stage:
        flops, kept = _count(model, step)
        parts = how.batch_size / group
        return Stage(name, epochs, how.batch_size, sides * how.batch_size, flops * parts, kept / group / sides)

    stages = []
    if how.translates:
        name = "translation and re-ID" if joint else "translation"
        stages.append(stage(name, how.epochs + how.decay_epochs, 2, translate))
    if not joint:
        stages.append(stage("re-ID", how.reid_epochs + how.reid_decay_epochs, 1, identify))
    return tuple(stages)


def _count(model: DAAMNet | EDAAN, step: Callable[[], None]) -> tuple[int, int]:
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

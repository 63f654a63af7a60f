"""The settings of method: edaan, their defaults and where those come from: the group ``edaan`` of :mod:`distreid.config`.

"paper" is Khatun et al. (EDAAN); *decided* marks what it leaves open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from distreid.common.errors import UserError
from distreid.config import Config


@dataclass
class EDAANNetworkConfig:
    """Figure 3 is not in the paper's text: CycleGAN's sizes (decided)."""

    width: int = 64  # channels of a generator's first layer; the shared feature map has four times as many
    encoder_blocks: int = 4  # residual blocks of E, before the re-ID head branches off (decided)
    decoder_blocks: int = 5  # and of G: nine together
    attention_width: int = 32
    attention_start: float = 0.5  # A of an untrained attention network (decided); above 0.5 it begins by keeping more
    discriminator_width: int = 64
    discriminator_layers: int = 3  # patches of 70 x 70 pixels
    reid_stages: int = 2  # strided residual stages between E_S and the pooling (decided)
    dropout: float = 0.5  # paper


@dataclass
class EDAANConfig:
    """Khatun et al.; Adam from scratch."""

    # edaan: end to end. daan: translate first, then train a re-ID network on real and translated images (Table V).
    # cyclegan: the same without attention, on translated images alone (Table I's baseline, decided).
    # direct: no translation; with target = source, supervised training (Table IV).
    variant: Literal["edaan", "daan", "cyclegan", "direct"] = "edaan"
    attention: bool = True  # the attention networks; false gives Table V's "without attention"
    metric: Literal["quartet", "triplet", "none"] = "quartet"  # paper: Eq. 7 or Eq. 6
    mining: Literal["hard", "all"] = "hard"  # which tuples of a group (decided)
    margin: float = 0.3  # -tau of Eq. 6 and 7 (decided)
    gan: Literal["log", "squares"] = "log"  # paper, Eq. 3; squares is CycleGAN's own loss
    gan_weight: float = 1.0  # Eq. 9
    cycle_weight: float = 10.0  # decided: Eq. 9 omits the term, the text uses it; CycleGAN's value
    attention_weight: float = 10.0  # paper
    # Decided, all 0 as in the paper: what keeps the mask away from the trivial ones (everything kept, so a perfect cycle; the same
    # grey everywhere, so perfect consistency), which short schedules find before the generators can draw.
    area_prior_weight: float = 0.0  # of (mean A - area_prior)^2 of each image
    area_prior: float = 0.3  # a person's share of a crop
    binary_weight: float = 0.0  # of mean A(1 - A)
    # The re-ID head also learns from what is kept of a source image, A * x alone (decided: not the paper's). Where few pixels may
    # be kept, it makes them those that tell people apart. Ignored where re-ID is not trained with the attention.
    foreground_view: bool = False
    # Past translations of each domain that are kept, so that half of those a discriminator judges are old ones; 0: none (the paper
    # is silent; CycleGAN keeps 50). A multiple of batch_size.
    replay: int = 0
    metric_weight: float = 1.0  # paper
    identity_weight: float = 1.0  # paper
    epochs: int = 100  # paper, at a constant rate; an epoch is one pass over the source images (decided)
    decay_epochs: int = 100  # paper, while the rate falls linearly to 0
    whole_epochs: int = 30  # paper: discriminators see whole images, afterwards the attended region only
    attention_epochs: int = 30  # paper: the attention networks train, afterwards they are frozen
    mask_threshold: float = 0.5  # of 1 - A, for the discriminators' attended region; 0 weights by 1 - A (decided)
    reid_epochs: int = 100  # second stage of daan and cyclegan, and direct: at a constant rate (decided: as above)
    reid_decay_epochs: int = 100
    lr: float = 2e-4  # paper
    beta1: float = 0.5  # of Adam: CycleGAN's (decided)
    batch_size: int = 16  # paper; source images, with as many target images, unpaired (decided)
    instances: int = 4  # images of an identity that stand together, for the metric loss (decided)
    group: int = 16  # source images that share BatchNorm statistics and tuples; must divide every worker's slice of the batch
    feature: Literal["embedding", "pooled"] = (
        "embedding"  # what is matched: the quartet's 128-d vector, or the pooled one (decided)
    )
    pictures_every: int = 10  # epochs between the grids in pictures/; 0 for none
    network: EDAANNetworkConfig = field(default_factory=EDAANNetworkConfig)

    @property
    def translates(self) -> bool:
        return self.variant != "direct"

    @property
    def views(self) -> int:
        """How often the re-ID head sees a source image: as it is, translated, and what is kept of it."""
        kept = self.foreground_view and self.attention and self.variant == "edaan"
        return (2 if self.variant in ("edaan", "daan") else 1) + kept


def check(config: Config) -> None:
    """Combinations that cannot work."""
    settings, size = config.group(EDAANConfig), config.input
    _check_numbers(settings)
    if settings.replay % settings.batch_size:
        raise UserError(f"edaan.replay={settings.replay} must be a multiple of edaan.batch_size={settings.batch_size}, or 0")
    if settings.variant == "cyclegan" and settings.attention:
        raise UserError("edaan.variant=cyclegan has no attention: set edaan.attention=false, or take edaan.variant=daan")
    if settings.metric == "none" and settings.feature == "embedding":
        raise UserError("edaan.metric=none trains no embedding to match by: set edaan.feature=pooled")
    if settings.translates and (size.height % 4 or size.width % 4):
        raise UserError(
            f"input.height={size.height} and input.width={size.width} must be multiples of 4: the generators halve twice"
        )
    if settings.translates and (size.erase or size.pad):
        raise UserError(
            f"input.erase={size.erase} and input.pad={size.pad}: the generators would learn erased and black areas; set both to 0"
        )
    _check_batch(settings, config.runtime.workers)
    for name, usual in (("strategy", "ddp"), ("accumulate", 1), ("min_workers", 0)):
        value = getattr(config.runtime, name)
        if value != usual:
            raise UserError(f"runtime.{name}={value} does not work with method=edaan: use {usual}")


def _check_numbers(settings: EDAANConfig) -> None:
    network = settings.network
    for name in (
        "width", "attention_width", "discriminator_width", "discriminator_layers",
    ):  # fmt: skip
        if getattr(network, name) < 1:
            raise UserError(f"edaan.network.{name}={getattr(network, name)} must be greater than 0")
    for name in ("encoder_blocks", "decoder_blocks", "reid_stages"):
        if getattr(network, name) < 0:
            raise UserError(f"edaan.network.{name}={getattr(network, name)} must not be negative")
    if not 0 < network.attention_start < 1:
        raise UserError(f"edaan.network.attention_start={network.attention_start} must lie between 0 and 1, both excluded")
    if not 0 <= network.dropout < 1:
        raise UserError(f"edaan.network.dropout={network.dropout} must lie between 0 and 1")
    for name in ("batch_size", "instances", "group"):
        if getattr(settings, name) < 1:
            raise UserError(f"edaan.{name}={getattr(settings, name)} must be greater than 0")
    for name in (
        "epochs",
        "decay_epochs",
        "whole_epochs",
        "attention_epochs",
        "reid_epochs",
        "reid_decay_epochs",
        "pictures_every",
        "replay",
    ):
        if getattr(settings, name) < 0:
            raise UserError(f"edaan.{name}={getattr(settings, name)} must not be negative")
    for name in (
        "margin",
        "gan_weight",
        "cycle_weight",
        "attention_weight",
        "area_prior_weight",
        "binary_weight",
        "metric_weight",
        "identity_weight",
        "lr",
    ):
        if not 0 <= getattr(settings, name) < math.inf:
            raise UserError(f"edaan.{name}={getattr(settings, name)} must be a number from 0")
    if not 0 <= settings.beta1 < 1 or not 0 <= settings.mask_threshold <= 1 or not 0 <= settings.area_prior <= 1:
        raise UserError(
            f"edaan.beta1={settings.beta1}, edaan.mask_threshold={settings.mask_threshold} and "
            f"edaan.area_prior={settings.area_prior} must lie between 0 and 1"
        )


def _check_batch(settings: EDAANConfig, workers: int) -> None:
    workers = max(1, workers)
    if settings.batch_size % (workers * settings.group):
        share = settings.batch_size // workers
        raise UserError(
            f"edaan.group={settings.group} does not divide the {settings.batch_size} source images of edaan.batch_size among "
            f"{workers} worker(s): choose a group that divides {share}, or another batch size"
        )
    if settings.group % settings.instances:
        raise UserError(f"edaan.instances={settings.instances} does not divide edaan.group={settings.group}")
    needed = {"quartet": 3, "triplet": 2, "none": 1}[settings.metric]
    if settings.group // settings.instances < needed:
        raise UserError(
            f"edaan.metric={settings.metric} needs {needed} identities in a group of edaan.group={settings.group} images, "
            f"which holds {settings.group // settings.instances}: lower edaan.instances={settings.instances}"
        )
    if settings.metric != "none" and settings.instances * settings.views < 2:
        raise UserError(f"edaan.metric={settings.metric} needs positives: raise edaan.instances={settings.instances}")

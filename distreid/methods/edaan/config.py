"""The settings of method: edaan, their defaults and where those come from: the group ``edaan`` of :mod:`distreid.config`.

"paper" is Khatun et al. (EDAAN); *decided* marks what it leaves open.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from distreid.common.errors import UserError
from distreid.common.settings import SETTINGS, Number, Switch, Whole
from distreid.config import Config


@dataclass(config=SETTINGS)
class EDAANNetworkConfig:
    """Figure 3 is not in the paper's text: CycleGAN's sizes (decided)."""

    width: Whole = Field(
        default=64,
        gt=0,
        description="channels of a generator's first layer; the shared feature map has four times as many (decided)",
    )
    encoder_blocks: Whole = Field(default=4, ge=0, description="residual blocks of E, before the re-ID head branches off (decided)")
    decoder_blocks: Whole = Field(default=5, ge=0, description="and of G: nine together (decided)")
    attention_width: Whole = Field(default=32, gt=0, description="channels of an attention network's first layer (decided)")
    attention_start: Number = Field(
        default=0.5, gt=0, lt=1, description="A of an untrained attention network (decided); above 0.5 it begins by keeping more"
    )
    discriminator_width: Whole = Field(default=64, gt=0, description="channels of a discriminator's first layer (decided)")
    discriminator_layers: Whole = Field(default=3, gt=0, description="3: patches of 70 x 70 pixels (decided)")
    reid_stages: Whole = Field(default=2, ge=0, description="strided residual stages between E_S and the pooling (decided)")
    dropout: Number = Field(default=0.5, ge=0, lt=1, description="before the identities; paper")


@dataclass(config=SETTINGS)
class EDAANConfig:
    """Khatun et al.: translation and re-identification trained together; Adam from scratch. Here "paper" is theirs."""

    variant: Literal["edaan", "daan", "cyclegan", "direct"] = Field(
        default="edaan",
        description="edaan: end to end. daan: translate first, then train a re-ID network on real and translated images (Table V)."
        " cyclegan: the same without attention, on translated images alone (Table I's baseline, decided)."
        " direct: no translation; with target = source, supervised training (Table IV)",
    )
    attention: Switch = Field(default=True, description='the attention networks; false gives Table V\'s "without attention"')
    metric: Literal["quartet", "triplet", "none"] = Field(default="quartet", description="the metric loss; paper: Eq. 7 or Eq. 6")
    mining: Literal["hard", "all"] = Field(
        default="hard", description="which tuples of a group count: the hardest, or all (decided)"
    )
    margin: Number = Field(default=0.3, ge=0, description="-tau of Eq. 6 and 7 (decided)")
    gan: Literal["log", "squares"] = Field(
        default="log", description="the adversarial loss; paper: Eq. 3; squares is CycleGAN's own loss"
    )
    gan_weight: Number = Field(default=1.0, ge=0, description="of the adversarial loss; Eq. 9")
    cycle_weight: Number = Field(
        default=10.0, ge=0, description="of the cycle loss (decided): Eq. 9 omits the term, the text uses it; CycleGAN's value"
    )
    attention_weight: Number = Field(default=10.0, ge=0, description="of the attention's consistency; paper")
    area_prior_weight: Number = Field(
        default=0.0,
        ge=0,
        description="of (mean A - area_prior)^2 of each image, which keeps short schedules from a mask that keeps everything;"
        " 0 as in the paper (decided)",
    )
    area_prior: Number = Field(default=0.3, ge=0, le=1, description="a person's share of a crop (decided)")
    binary_weight: Number = Field(
        default=0.0,
        ge=0,
        description="of mean A(1 - A), which keeps short schedules from the same grey everywhere; 0 as in the paper (decided)",
    )
    foreground_view: Switch = Field(
        default=False,
        description="the re-ID head also learns from what is kept of a source image, A * x alone (decided: not the paper's);"
        " where few pixels may be kept, it makes them those that tell people apart; ignored where re-ID is not trained with the"
        " attention",
    )
    replay: Whole = Field(
        default=0,
        ge=0,
        description="past translations of each domain that are kept, so that half of those a discriminator judges are old ones;"
        " a multiple of batch_size; 0: none (the paper is silent; CycleGAN keeps 50)",
    )
    metric_weight: Number = Field(default=1.0, ge=0, description="of the metric loss; paper")
    identity_weight: Number = Field(default=1.0, ge=0, description="of the identity loss; paper")
    epochs: Whole = Field(
        default=100, ge=0, description="at a constant rate; paper; an epoch is one pass over the source images (decided)"
    )
    decay_epochs: Whole = Field(default=100, ge=0, description="more, while the rate falls linearly to 0; paper")
    whole_epochs: Whole = Field(
        default=30,
        ge=0,
        description="the first, in which discriminators see whole images; afterwards the attended region only; paper",
    )
    attention_epochs: Whole = Field(
        default=30, ge=0, description="the first, in which the attention networks train; afterwards they are frozen; paper"
    )
    mask_threshold: Number = Field(
        default=0.5,
        ge=0,
        le=1,
        description="of 1 - A, for the discriminators' attended region; 0 weights by 1 - A (decided)",
    )
    reid_epochs: Whole = Field(
        default=100, ge=0, description="second stage of daan and cyclegan, and direct: at a constant rate (decided: as above)"
    )
    reid_decay_epochs: Whole = Field(default=100, ge=0, description="and while the rate falls linearly to 0 (decided)")
    lr: Number = Field(default=2e-4, ge=0, description="learning rate of Adam; paper")
    beta1: Number = Field(default=0.5, ge=0, lt=1, description="of Adam: CycleGAN's (decided)")
    batch_size: Whole = Field(default=16, gt=0, description="source images, with as many target images, unpaired (decided); paper")
    instances: Whole = Field(
        default=4, gt=0, description="images of an identity that stand together, for the metric loss (decided)"
    )
    group: Whole = Field(
        default=16,
        gt=0,
        description="source images that share BatchNorm statistics and tuples; must divide every worker's slice of the batch"
        " (decided)",
    )
    feature: Literal["embedding", "pooled"] = Field(
        default="embedding", description="what is matched: the quartet's 128-d vector, or the pooled one (decided)"
    )
    pictures_every: Whole = Field(default=10, ge=0, description="epochs between the grids in pictures/; 0 for none")
    network: EDAANNetworkConfig = Field(default_factory=EDAANNetworkConfig)

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
    if config.adapt.stop != "never":
        raise UserError(f"adapt.stop={config.adapt.stop} goes by rounds of labelling, and method=edaan has none: leave it at never")
    _check_batch(settings, config.runtime.workers)
    for name, usual in (("strategy", "ddp"), ("accumulate", 1), ("min_workers", 0)):
        value = getattr(config.runtime, name)
        if value != usual:
            raise UserError(f"runtime.{name}={value} does not work with method=edaan: use {usual}")


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

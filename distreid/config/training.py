"""Groups `pretrain`, `loss`, `adapt` and `evaluate`: Algorithm 1's stages, and what is measured on the way."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from distreid.common.settings import SETTINGS, AutoOrWhole, Number, SoftOrNumber, Switch, Whole

Sampler = Literal["plain", "pk"]


@dataclass(config=SETTINGS)
class OptimizerConfig:
    """The optimiser of a stage: the pre-trained backbone learns at one rate, all that is new at another."""

    name: Literal["sgd", "adamw"] = Field(default="sgd", description="which optimiser; paper")
    lr_backbone: Number = Field(default=1.5e-4, ge=0, description="learning rate of the backbone; paper")
    lr_new: Number = Field(default=3e-5, ge=0, description='of everything else; paper: "other layers"')
    momentum: Number = Field(default=0.9, ge=0, lt=1, description="of sgd; paper")
    weight_decay: Number = Field(default=5e-4, ge=0, description="decided: the field's common value")
    clip: Number = Field(
        default=0.0,
        ge=0,
        description="bring the gradients' norm over all trained weights down to this at each step; 0: never (decided)",
    )
    schedule: Literal["step", "cosine"] = Field(
        default="step", description="of the rates; cosine falls to 0 at the last epoch; paper: step"
    )
    step_epochs: Whole = Field(default=60, gt=0, description="step: epochs between two falls; paper")
    step_gamma: Number = Field(default=0.1, ge=0, description="step: what the rates are multiplied by; paper")
    warmup_epochs: Number = Field(default=0.0, ge=0, description="the rates rise linearly from 0 over so many epochs (decided)")


@dataclass(config=SETTINGS)
class PretrainOptimizerConfig(OptimizerConfig):
    """As `adapt.optimizer`. The paper does not say how the source model is trained: the field's plain baseline (decided)."""

    lr_backbone: Number = Field(default=0.01, ge=0, description="learning rate of the backbone (decided)")
    lr_new: Number = Field(default=0.1, ge=0, description="of everything else (decided)")
    step_epochs: Whole = Field(default=40, gt=0, description="step: epochs between two falls (decided)")


@dataclass(config=SETTINGS)
class PretrainConfig:
    """Line 1 of Algorithm 1: the source identity loss only."""

    epochs: Whole = Field(default=60, ge=0, description="passes over the source images; 0: none (decided)")
    batch_size: Whole = Field(default=32, gt=0, description="of all workers together; the paper's mini-batch")
    sampler: Sampler = Field(
        default="plain", description="pk: identity-balanced, `instances` images of each identity in a batch (decided)"
    )
    instances: Whole = Field(default=4, gt=0, description="of an identity, for pk (decided)")
    smoothing: Number = Field(default=0.0, ge=0, le=1, description="label smoothing; Eq. 3 has none")
    checkpoint: str = Field(default="", description="start from this run's or file's pre-trained weights instead of pre-training")
    optimizer: PretrainOptimizerConfig = Field(default_factory=PretrainOptimizerConfig)


@dataclass(config=SETTINGS)
class LossConfig:
    """Eq. 3 to 7: what a pseudo-label is, and how much each term counts."""

    target: Literal["soft", "hard", "lsr"] = Field(
        default="soft", description="what the target's images are taught: soft labels (Eq. 5); hard and lsr are Table 4's rows"
    )
    epsilon: Number = Field(default=0.9, ge=0, le=1, description="added to the own cluster's weight in a soft label; Eq. 4")
    normalize: Switch = Field(default=False, description="decided: weights as defined; true rescales each row to sum 1")
    smoothing: Number = Field(default=0.1, ge=0, le=1, description="of lsr: Szegedy et al. 2016")
    domain_weight: Number = Field(default=1.0, ge=0, description="of the domain loss; Eq. 7 adds the terms as they are")
    triplet: Number = Field(
        default=0.0,
        ge=0,
        description="weight of a batch-hard triplet term (Hermans et al. 2017) on the features before the neck, of source and"
        " target apart, within the groups of model.batchnorm_group; needs the sampler pk; 0: none (paper)",
    )
    triplet_margin: SoftOrNumber = Field(
        default=0.3, description="of the triplet term: a number (Luo et al. 2019: 0.3), or soft: log(1 + exp) in place of the hinge"
    )


@dataclass(config=SETTINGS)
class AdaptConfig:
    """Lines 2-6 of Algorithm 1: label the target, train on both domains, again."""

    rounds: Whole = Field(default=5, ge=0, description='of labelling and training; paper: "converges by 5, < 10"')
    epochs: Whole = Field(
        default=260,
        ge=0,
        description="paper, per round; an epoch is one pass over the clustered target images (decided); 0: label and measure"
        " without training",
    )
    batch_size: Whole = Field(default=32, gt=0, description="of all workers together; paper; half source and half target (decided)")
    sampler: Sampler = Field(default="plain", description="decided: the paper names none; pk balances identities and clusters")
    instances: Whole = Field(default=4, gt=0, description="of an identity or a cluster, for pk (decided)")
    batchnorm: Literal["batch", "frozen", "target"] = Field(
        default="batch",
        description="what the rounds normalise by. batch: each batch's statistics (paper); frozen: the source model's, whatever a"
        " batch holds: the few people of a balanced batch cannot be told by what they do to its statistics (decided; usual in"
        " fine-tuning detectors since He et al. 2016); target: as frozen, but the target's, which a pass over its images takes"
        " before the first labels (Li et al. 2017)",
    )
    stop: Literal["never", "auto"] = Field(
        default="never",
        description="never: all rounds, and the last one's model. auto: each round's labels judge the model that they come from;"
        " the rounds end where they show that it goes wrong, or has settled, and the last stable model is kept (decided;"
        " docs/algorithm.md)",
    )
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)


@dataclass(config=SETTINGS)
class EvaluateConfig:
    """What is measured after pre-training and after the rounds, on whichever test sets there are."""

    target: Switch = Field(default=True, description="false: accuracy on the target's test set is not measured, if it has one")
    source: Switch = Field(default=True, description="the same of the source's")
    every_round: Switch = Field(default=True, description="false: after the last round only")
    flip: Switch = Field(default=False, description="average the features of an image and its mirror image")
    batch_size: AutoOrWhole = Field(
        default="auto", description="images of a forward pass, per worker; auto: 32 on CPUs, on a GPU as many as its memory holds"
    )

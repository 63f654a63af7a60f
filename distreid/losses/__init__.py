"""Losses: small functions from logits, images and embeddings to scalars."""

from distreid.losses.adversarial import (
    GANKind,
    adversarial_loss,
    area_loss,
    attention_consistency_loss,
    binarity_loss,
    cycle_loss,
)
from distreid.losses.domain import domain_loss
from distreid.losses.identity import hard_label_loss, label_smoothing_loss, soft_label_loss
from distreid.losses.metric import Mining, quartet_loss, triplet_loss

__all__ = [
    "GANKind",
    "Mining",
    "adversarial_loss",
    "area_loss",
    "attention_consistency_loss",
    "binarity_loss",
    "cycle_loss",
    "domain_loss",
    "hard_label_loss",
    "label_smoothing_loss",
    "quartet_loss",
    "soft_label_loss",
    "triplet_loss",
]

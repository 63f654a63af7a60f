"""Losses: small functions from logits to scalars."""

from distreid.losses.domain import domain_loss
from distreid.losses.identity import hard_label_loss, label_smoothing_loss, soft_label_loss

__all__ = ["domain_loss", "hard_label_loss", "label_smoothing_loss", "soft_label_loss"]

"""Losses of image translation (Khatun et al., EDAAN): adversarial, cycle consistency, attention consistency. Means, as scalars."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

GANKind = Literal["log", "squares"]


def adversarial_loss(logits: Tensor, *, real: bool, kind: GANKind = "log") -> Tensor:
    """Eq. 3, for one set of a discriminator's patch logits that should say ``real`` (or not).

    ``log``: -log D(x), or -log(1 - D(x)), with D = sigmoid(logit). ``squares``: (logit - 1)^2, or logit^2 (least-squares GAN).
    The generator minimises it on its images with ``real=True`` (the non-saturating form of Eq. 3's second term).
    """
    wanted = torch.full_like(logits, float(real), dtype=torch.float32)
    loss = F.binary_cross_entropy_with_logits if kind == "log" else F.mse_loss
    return loss(logits.float(), wanted)


def cycle_loss(x_BCHW: Tensor, back_BCHW: Tensor) -> Tensor:
    """One direction of Eq. 4: the L1 distance of an image from itself after both translations, mean over pixels (decided)."""
    return F.l1_loss(back_BCHW.float(), x_BCHW.float())


def attention_consistency_loss(mask_B1HW: Tensor, translated_mask_B1HW: Tensor) -> Tensor:
    """One direction of Eq. 5: |A_S(x) - A_T(G(x))|, mean over pixels (decided)."""
    return F.l1_loss(mask_B1HW.float(), translated_mask_B1HW.float())


def binarity_loss(mask_B1HW: Tensor) -> Tensor:
    """A(1 - A), mean over pixels (decided; no part of the paper): 0 where every pixel is either kept or translated."""
    mask_B1HW = mask_B1HW.float()
    return (mask_B1HW * (1 - mask_B1HW)).mean()


def area_loss(mask_B1HW: Tensor, area: float) -> Tensor:
    """(mean A - area)^2 of each image, mean over the images (decided; no part of the paper)."""
    return (mask_B1HW.float().mean((1, 2, 3)) - area).square().mean()

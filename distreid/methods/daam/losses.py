"""The losses of DAAM (Huang et al., AAAI 2020) over a mixed batch, by the number of their equation.

The arithmetic of one loss is in :mod:`distreid.losses`, Eq. 4's soft labels are :func:`distreid.labels.soft_weights`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from distreid.config import LossConfig
from distreid.labels import soft_weights
from distreid.losses import domain_loss, hard_label_loss, label_smoothing_loss, soft_label_loss
from distreid.models import DAAMOutput
from distreid.training.stage import LossTerms


@dataclass(frozen=True)
class Identities:
    """Who is on the images of a batch, in its order: S source images and T target images.

    Attributes:
        source_S: identity 0 .. N_ids-1, target_T: cluster 0 .. K-1; int64.
        weights_TK: Eq. 4's soft labels, where Eq. 5 wants them.
    """

    source_S: Tensor
    target_T: Tensor
    weights_TK: Tensor | None


def source_identity_loss(logits_SN: Tensor, source_S: Tensor, smoothing: float = 0.0) -> Tensor:
    """Eq. 3, L_cro_s = -log p_id(y|x), mean over the source images; ``smoothing`` is not the paper's."""
    return label_smoothing_loss(logits_SN, source_S, smoothing)


def soft_labels(
    features_TD: Tensor, centers_KD: Tensor, target_T: Tensor, settings: LossConfig, *, normalized: bool = True
) -> Tensor:
    """Eq. 4, w_ik of some target images by the round's features of them; float32 [T, K].

    ``normalized``: whether the centres are means of L2-normalised features.
    """
    return soft_weights(
        features_TD.float(),
        centers_KD,
        target_T,
        epsilon=settings.epsilon,
        normalize=settings.normalize,
        normalize_features=normalized,
    )


def target_identity_loss(logits_TK: Tensor, who: Identities, settings: LossConfig) -> Tensor:
    """Eq. 5, L_cro_t = -sum_k w_ik log p_id(k|x_i), mean over the target images; or Table 4's hard label and LSR."""
    if settings.target == "hard":
        return hard_label_loss(logits_TK, who.target_T)
    if settings.target == "lsr":
        return label_smoothing_loss(logits_TK, who.target_T, settings.smoothing)
    assert who.weights_TK is not None
    return soft_label_loss(logits_TK, who.weights_TK)


def domain_specific_loss(logits_B2: Tensor, domain_B: Tensor) -> Tensor:
    """Eq. 6, L_DSP: cross entropy of source (0) against target (1) on f_sp, mean over all images."""
    return domain_loss(logits_B2, domain_B)


def total_loss(output: DAAMOutput, domain_B: Tensor, who: Identities, settings: LossConfig) -> LossTerms:
    """Eq. 7: L_cro_s + L_DSP on source images, L_cro_t + L_DSP on target images, as the mean over the images of the batch."""
    assert output.target_logits_TK is not None
    share = len(who.source_S) / len(domain_B)
    terms = {
        "source": share * source_identity_loss(output.source_logits_SN, who.source_S),
        "target": (1 - share) * target_identity_loss(output.target_logits_TK, who, settings),
    }
    if output.domain_logits_B2 is not None:
        terms["domain"] = settings.domain_weight * domain_specific_loss(output.domain_logits_B2, domain_B)
    return terms

"""Identity losses of DAAM (Huang et al., AAAI 2020): hard labels (Eq. 3), soft labels (Eq. 5), label smoothing (LSR).

Each takes logits [B, K] and returns the mean over the batch as a scalar; an empty batch gives a zero that carries a gradient.
"""

import torch.nn.functional as F
from torch import Tensor


def hard_label_loss(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Eq. 3: -log p(y|x). ``labels_B`` int64 in [0, K)."""
    return label_smoothing_loss(logits_BK, labels_B, smoothing=0.0)


def label_smoothing_loss(logits_BK: Tensor, labels_B: Tensor, smoothing: float = 0.1) -> Tensor:
    """LSR (Szegedy et al. 2016): cross entropy with (1 - smoothing) * one-hot + smoothing / K."""
    if len(logits_BK) == 0:
        return logits_BK.sum()
    return F.cross_entropy(logits_BK.float(), labels_B, label_smoothing=smoothing)


def soft_label_loss(logits_BK: Tensor, weights_BK: Tensor) -> Tensor:
    """Eq. 5: -sum_k w_ik log p(k|x_i). ``weights_BK`` are Eq. 4's, used as defined: rows need not sum to 1."""
    if len(logits_BK) == 0:
        return logits_BK.sum()
    return -(weights_BK * F.log_softmax(logits_BK.float(), dim=1)).sum(1).mean()

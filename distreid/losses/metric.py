"""Triplet and quartet loss (Khatun et al., EDAAN, Eq. 6 and 7) over the tuples that a batch holds.

max{z, tau} of the equations is max{z - tau, 0} + tau, so up to a constant the usual hinge with margin -tau. D is the Euclidean
distance. The papers do not say how tuples are chosen. Decided, as options: ``hard``, for every anchor its furthest positive, its
nearest negative 3 and, for the quartet, the image 4 of a third identity that is nearest to 3; ``all``, the mean over every tuple.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Mining = Literal["hard", "all"]
Margin = float | Literal["soft"]


def triplet_loss(embeddings_BD: Tensor, labels_B: Tensor, *, margin: Margin, mining: Mining = "hard") -> Tensor:
    """Eq. 6: max(D12 - D13 + margin, 0), mean over the tuples; a zero that carries a gradient where there is none.

    ``hard`` is the batch-hard triplet loss of Hermans et al. (2017), ``soft`` their margin: log(1 + exp(D12 - D13)).

    Args:
        embeddings_BD: float [B, D]; labels_B: int64 [B].
    """
    d_BB, positive_BB, negative_BB = _pairs(embeddings_BD, labels_B)
    if mining == "all":
        valid_BBB = positive_BB[:, :, None] & negative_BB[:, None, :]
        return _mean(_hinge(d_BB[:, :, None] - d_BB[:, None, :], margin), valid_BBB)
    d12_B, d13_B, _ = _hardest(d_BB, positive_BB, negative_BB)
    return _mean(_hinge(d12_B - d13_B, margin), positive_BB.any(1) & negative_BB.any(1))


def quartet_loss(embeddings_BD: Tensor, labels_B: Tensor, *, margin: float, mining: Mining = "hard") -> Tensor:
    """Eq. 7: max(D12 - D13 + D12 - D43 + margin, 0) with 3 and 4 of two further identities; like :func:`triplet_loss`."""
    d_BB, positive_BB, negative_BB = _pairs(embeddings_BD, labels_B)
    # third[i, j, k]: k is neither of i's identity nor of j's.
    third_BBB = negative_BB[:, None, :] & negative_BB[None, :, :]
    if mining == "all":
        valid = positive_BB[:, :, None, None] & negative_BB[:, None, :, None] & third_BBB[:, None]
        z = 2 * d_BB[:, :, None, None] - d_BB[:, None, :, None] - d_BB[None, None]
        return _mean((z + margin).clamp(min=0), valid)
    d12_B, d13_B, three_B = _hardest(d_BB, positive_BB, negative_BB)
    anchor_B = torch.arange(len(d_BB), device=d_BB.device)
    fourth_BB = third_BBB[anchor_B, three_B]
    d43_B = d_BB[three_B].masked_fill(~fourth_BB, torch.inf).amin(1)
    valid_B = positive_BB.any(1) & negative_BB.any(1) & fourth_BB.any(1)
    return _mean((2 * d12_B - d13_B - d43_B + margin).clamp(min=0), valid_B)


def _hinge(z: Tensor, margin: Margin) -> Tensor:
    return F.softplus(z) if margin == "soft" else (z + margin).clamp(min=0)


def _pairs(embeddings_BD: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, who is whose positive (never oneself) and who is whose negative; each [B, B]."""
    x_BD = embeddings_BD.float()
    # Through the differences: the dot-product form loses near pairs. The root's slope at 0 is infinite, hence the floor.
    d_BB = (x_BD[:, None] - x_BD[None]).square().sum(2).clamp(min=1e-12).sqrt()
    same_BB = labels_B[:, None] == labels_B[None]
    return d_BB, same_BB & ~torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device), ~same_BB


def _hardest(d_BB: Tensor, positive_BB: Tensor, negative_BB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of each image's furthest positive, of its nearest negative, and that negative's index."""
    d13_B, three_B = d_BB.masked_fill(~negative_BB, torch.inf).min(1)
    return d_BB.masked_fill(~positive_BB, -torch.inf).amax(1), d13_B, three_B


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of the valid values, 0 where there is none; the rest may be infinite. How many there are stays on the device."""
    return values.masked_fill(~valid, 0.0).sum() / valid.sum().clamp(min=1)

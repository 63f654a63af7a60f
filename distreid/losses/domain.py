"""The domain-specific loss of DAAM."""

from torch import Tensor

from distreid.losses.identity import hard_label_loss


def domain_loss(logits_B2: Tensor, domain_B: Tensor) -> Tensor:
    """Eq. 6: two-class cross entropy on f_sp. ``domain_B`` int64, 0 source and 1 target; mean over the batch."""
    return hard_label_loss(logits_B2, domain_B)

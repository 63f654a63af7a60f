"""Soft labels of DAAM (Huang et al., AAAI 2020, Eq. 4)."""

import torch
from torch import Tensor

# Eq. 4 divides by a squared distance. A feature nearer than this to a centre (1% of a unit feature's length) counts as this near:
# one weight is then at most 1e4 / K, where a copy of the centre would give infinity.
MIN_SQUARED_DISTANCE = 1e-4


@torch.no_grad()
def soft_weights(
    features_BD: Tensor,
    centers_KD: Tensor,
    labels_B: Tensor,
    *,
    epsilon: float = 0.9,
    normalize: bool = False,
    normalize_features: bool = True,
    min_squared_distance: float = MIN_SQUARED_DISTANCE,
) -> Tensor:
    """w_ik = 1 / (K·‖f_i − C_k‖²), plus ε for the sample's own cluster (Eq. 4): float32 [B, K] on the device of the features.

    [decided] Features are L2-normalised first unless `normalize_features` is false (then the centres must be of raw features);
    the squared distance is clamped from below; the weights are used as defined, `normalize` divides each row by its sum.
    Every label must be in 0..K−1: outliers take no part in target training. On a CPU that is checked; to look at a GPU's labels,
    the host would wait for it at each step.
    """
    num_clusters = centers_KD.shape[0]
    if labels_B.device.type == "cpu" and labels_B.numel() and not 0 <= int(labels_B.min()) <= int(labels_B.max()) < num_clusters:
        raise ValueError(f"soft weights need labels in 0..{num_clusters - 1}: leave outliers (−1) out of the batch")
    f_BD, c_KD = features_BD.double(), centers_KD.double()
    if normalize_features:
        f_BD = torch.nn.functional.normalize(f_BD, dim=1)
    # float64, because this form of the squared distance cancels for features near a centre.
    squared_BK = f_BD.square().sum(1, keepdim=True) + c_KD.square().sum(1) - 2 * f_BD @ c_KD.T
    weights_BK = 1 / (num_clusters * squared_BK.clamp_min(min_squared_distance))
    weights_BK[torch.arange(len(labels_B), device=labels_B.device), labels_B] += epsilon
    if normalize:
        weights_BK /= weights_BK.sum(1, keepdim=True)
    return weights_BK.float()

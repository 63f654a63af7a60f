"""The domain adaptive attention module A(F) in (0,1)^{h x w x c} (Huang et al., AAAI 2020, Figure 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distreid.models.norm import batch_norm


class DomainAdaptiveAttention(nn.Module):
    """A spatial stage, then a channel stage; every convolution is followed by BatchNorm and ReLU, the last by a sigmoid.

    Spatial: a depthwise 3x3 convolution with stride 2, resized bilinearly back to h x w. Decided: one kernel a channel,
    because the paper says that the stage "preserves channel-specific characteristics". Channel: 1x1 convolutions c -> c/16 -> c.
    Decided: a sigmoid in place of the last ReLU, since A must lie in (0,1).

    Args:
        neutral: start with A = 1/2 everywhere, by a last BatchNorm whose scale is 0.
    """

    def __init__(self, channels: int, reduction: int = 16, *, neutral: bool = False) -> None:
        super().__init__()
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride=2, groups=channels, bias=False),
            batch_norm(channels),
            nn.ReLU(inplace=True),
        )
        hidden = max(1, channels // reduction)
        last = batch_norm(channels)
        if neutral:
            nn.init.zeros_(last.weight)
        self.channel = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            batch_norm(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
            last,
        )

    def forward(self, f_Bchw: Tensor) -> Tensor:
        """F [B, c, h, w] -> A [B, c, h, w] in (0, 1)."""
        # Padded here and not by the convolution: on a map of 2 x 1, whose border taps see padding alone, oneDNN leaves their
        # bfloat16 gradients uninitialised (torch 2.15), and sooner or later a weight is NaN.
        spatial_Bchw = self.spatial(F.pad(f_Bchw, (1, 1, 1, 1)))
        a_Bchw = F.interpolate(spatial_Bchw, size=f_Bchw.shape[-2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(self.channel(a_Bchw))

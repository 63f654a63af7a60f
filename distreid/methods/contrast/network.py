"""The network of contrast: backbone, pooling and neck, and where one is asked for a mean teacher of the same form."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distreid.config import Config
from distreid.methods.contrast.config import ContrastConfig
from distreid.models import Backbone, ReIDNetwork, build_backbone, group_batchnorm
from distreid.models.norm import batch_norm


class GeM(nn.Module):
    """Generalised mean over the places of a map, (mean of x^p)^(1/p) (Radenovic et al. 2018): [B, c, h, w] to float32 [B, c].

    p is learnt; 1 is the mean, infinity the maximum. What is below ``least`` counts as ``least``: a root needs positive numbers.
    """

    def __init__(self, p: float = 3.0, least: float = 1e-6) -> None:
        super().__init__()
        self.p, self._least = nn.Parameter(torch.tensor([p])), least

    def forward(self, f_Bchw: Tensor) -> Tensor:
        return f_Bchw.float().clamp(min=self._least).pow(self.p).mean((2, 3)).pow(1 / self.p)


class Encoder(nn.Module):
    """Images to what is clustered and matched: pooled, behind a BatchNorm without an offset (Luo et al. 2019); float32 [B, c]."""

    def __init__(self, backbone: Backbone, pooling: str) -> None:
        super().__init__()
        self.backbone, self.gem = backbone, GeM() if pooling == "gem" else None
        self.neck = batch_norm(backbone.channels)  # over maps of one place: BatchNorm1d would not be grouped

    def forward(self, x_BCHW: Tensor) -> Tensor:
        f_Bchw = self.backbone(x_BCHW)
        f_Bc = f_Bchw.float().mean((2, 3)) if self.gem is None else self.gem(f_Bchw)
        return self.neck(f_Bc[:, :, None, None])[:, :, 0, 0]


class ContrastNet(ReIDNetwork):
    """An encoder that trains and, with ``teacher``, a second one that follows it and gives the features."""

    def __init__(self, backbone: Backbone, *, pooling: str, teacher: bool) -> None:
        super().__init__()
        self.mean, self.std, self.note = backbone.mean, backbone.std, backbone.note
        self.encoder = Encoder(backbone, pooling)
        self.teacher = copy.deepcopy(self.encoder) if teacher else None

    @property
    def feature_channels(self) -> int:
        return self.encoder.backbone.channels

    def features(self, x_BCHW: Tensor) -> Tensor:
        return (self.encoder if self.teacher is None else self.teacher)(x_BCHW)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """L2-normalised features of the encoder that trains, float32 [B, c]."""
        return F.normalize(self.encoder(x_BCHW), dim=1)

    def trained(self) -> list[nn.Parameter]:
        """All of the encoder's, but the neck's offset, which stays 0."""
        return [p for p in self.encoder.parameters() if p is not self.encoder.neck.bias]

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Bring the teacher, if there is one, a step nearer: its weights and statistics are means over the encoder's past."""
        if self.teacher is None:
            return
        for slow, fast in zip(self.teacher.state_dict().values(), self.encoder.state_dict().values(), strict=True):
            if slow.is_floating_point():
                slow.lerp_(fast, 1 - momentum)
            else:
                slow.copy_(fast)


def build_model(config: Config, identities: int, *, weights: bool = True) -> ContrastNet:
    """``identities`` need no head: they are rows of the memory. ``weights`` False where a checkpoint's follow."""
    settings, own = config.model, config.group(ContrastConfig)
    size = config.input.height, config.input.width
    backbone = build_backbone(settings.backbone, settings.weights if weights else "none", settings.last_stride, size)
    model = ContrastNet(backbone, pooling=own.pooling, teacher=own.teacher > 0)
    group_batchnorm(model, settings.batchnorm_group)
    return model

"""The network of contrast: an encoder with a neck, and where one is asked for a mean teacher of the same form."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from distreid.config import Config
from distreid.methods.norms import set_norms
from distreid.models import Backbone, EncoderNetwork, FeatureEncoder, build_backbone
from distreid.models.encoder import Pooling, classifier, gem, through
from distreid.models.network import parameters_of
from distreid.models.norm import batch_norm


class ContrastNet(EncoderNetwork):
    """An encoder that trains, behind a BatchNorm without an offset (Luo et al. 2019), and with ``teacher`` one that follows it."""

    student_prefix = "encoder."

    def __init__(self, backbone: Backbone, identities: int, *, pooling: Pooling, teacher: bool) -> None:
        super().__init__()
        self.mean, self.std, self.note = backbone.mean, backbone.std, backbone.note
        self.encoder = FeatureEncoder(backbone, None, gem(pooling), batch_norm(backbone.channels))
        self.source_head = classifier(backbone.channels, identities) if identities else None
        self.teacher = None
        if teacher:
            self.begin_teacher()

    @property
    def feature_channels(self) -> int:
        return self.encoder.backbone.channels

    def student(self) -> FeatureEncoder:
        return self.encoder

    def forward(self, x_BCHW: Tensor, classify: bool = False) -> tuple[Tensor, Tensor]:
        """L2-normalised features of the encoder that trains, or the classifier's logits; and what stands before the neck.

        float32 [B, c] or [B, N_ids], and [B, c].
        """
        pooled_Bc = self.encoder.pooled(x_BCHW)
        f_Bc = through(self.encoder.neck, pooled_Bc)
        if not classify:
            return F.normalize(f_Bc, dim=1), pooled_Bc
        assert self.source_head is not None
        return self.source_head(f_Bc), pooled_Bc

    def trained_on_source(self) -> list[nn.Parameter]:
        return self.trained() + parameters_of([self.source_head])

    def trained(self) -> list[nn.Parameter]:
        """All of the encoder's, but the neck's offset, which stays 0."""
        assert self.encoder.neck is not None
        offsets = {id(p) for name, p in self.encoder.neck.named_parameters() if name.endswith("bias")}
        return [p for p in self.encoder.parameters() if id(p) not in offsets]


def build_model(config: Config, identities: int, *, weights: bool = True) -> ContrastNet:
    """``identities`` of the source; 0 without one. ``weights`` False where a checkpoint's follow."""
    settings = config.model
    size = config.input.height, config.input.width
    backbone = build_backbone(settings.backbone, settings.weights if weights else "none", settings.last_stride, size)
    model = ContrastNet(backbone, identities, pooling=settings.pooling, teacher=settings.teacher > 0)
    set_norms(model, settings)
    return model

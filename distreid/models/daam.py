"""The DAAM network (Huang et al., AAAI 2020, Figure 2) and its ablation variants (Table 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from distreid.models.attention import DomainAdaptiveAttention
from distreid.models.backbone import Backbone
from distreid.models.encoder import EncoderNetwork, FeatureEncoder, Pooling, classifier, gem, pool, through
from distreid.models.network import parameters_of
from distreid.models.norm import batch_norm

Attention = Literal["shared", "individual", "none"]


@dataclass
class DAAMOutput:
    """What one mixed batch of B images yields; S of them are source, T target, in the batch's order."""

    source_logits_SN: Tensor  # [S, N_ids]
    target_logits_TK: Tensor | None  # [T, K]; None before the first round
    domain_logits_B2: Tensor | None  # [B, 2], column 0 source, 1 target; None without the DSP branch
    pooled_Bc: Tensor  # f_sh before the neck, float32 [B, c]


class DAAMNet(EncoderNetwork):
    """Backbone, attention, and the domain-shared (DSH) and domain-specific (DSP) branches.

    Variants, by (attention, domain_branch): (none, False) plain; (none, True) DSH+DSP without attention, both branches see F;
    (shared, False) DSH with attention; (individual, True) IA, an attention module for each branch in place of A and 1-A;
    (shared, True) the full model.

    Args:
        backbone: yields F [B, c, h, w].
        identities: N_ids, classes of the source head.
        attention_start: "neutral" for A = 1/2 everywhere until training moves it.
        pooling: of F_sh; the domain-specific branch takes the mean. gem is not the paper's.
        neck: BatchNorm between f_sh and the identity heads (Luo et al. 2019). Not the paper's; trains faster from scratch.
        teacher: a mean teacher gives the features. Not the paper's.
        clusters: K, classes of the target head; 0 for none yet (see :meth:`new_target_head`).
    """

    def __init__(
        self,
        backbone: Backbone,
        identities: int,
        *,
        attention: Attention = "shared",
        attention_start: Literal["random", "neutral"] = "random",
        domain_branch: bool = True,
        pooling: Pooling = "mean",
        neck: bool = False,
        teacher: bool = False,
        clusters: int = 0,
    ) -> None:
        super().__init__()
        c = backbone.channels
        self.backbone = backbone
        self.mean, self.std, self.note = backbone.mean, backbone.std, backbone.note
        module = partial(DomainAdaptiveAttention, c, neutral=attention_start == "neutral")
        self.attention = module() if attention != "none" else None
        self.specific_attention = module() if attention == "individual" and domain_branch else None
        self.gem = gem(pooling)
        self.neck = batch_norm(c) if neck else None
        self.source_head = classifier(c, identities)
        self.target_head = classifier(c, clusters) if clusters else None
        self.domain_head = classifier(c, 2) if domain_branch else None
        self.teacher = None
        if teacher:
            self.begin_teacher()

    @property
    def feature_channels(self) -> int:
        return self.backbone.channels

    def new_target_head(self, clusters: int, seed: int) -> None:
        """Replace the K-way target head; its weights are a function of ``seed`` alone, the same on every worker."""
        device = self.source_head.weight.device
        self.target_head = classifier(self.backbone.channels, clusters, torch.Generator().manual_seed(seed)).to(device)

    def grow(self, weights: Mapping[str, Tensor]) -> None:
        """Make the target head that the weights hold."""
        if "target_head.weight" in weights:
            self.new_target_head(len(weights["target_head.weight"]), seed=0)

    def split(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """F_sh = A * F (Eq. 1) and F_sp = (1 - A) * F (Eq. 2), each [B, c, h, w]."""
        f_Bchw = self.backbone(x_BCHW)
        if self.attention is None:
            return f_Bchw, f_Bchw
        a_Bchw = self.attention(f_Bchw)
        if self.specific_attention is not None:
            return a_Bchw * f_Bchw, self.specific_attention(f_Bchw) * f_Bchw
        return a_Bchw * f_Bchw, (1 - a_Bchw) * f_Bchw

    def trained_on_source(self) -> list[nn.Parameter]:
        """All that L_cro_s depends on (Eq. 3)."""
        return parameters_of([self.backbone, self.attention, self.gem, self.neck, self.source_head])

    def trained(self) -> list[nn.Parameter]:
        """All but the teacher's."""
        followed = {id(p) for p in parameters_of([self.teacher])}
        return [p for p in self.parameters() if id(p) not in followed]

    def student(self) -> FeatureEncoder:
        """Images to f_sh = GAP(F_sh), behind the neck where there is one. Made of this network's own parts."""
        return FeatureEncoder(self.backbone, self.attention, self.gem, self.neck)

    def forward(self, x_BCHW: Tensor, domains: Tensor | tuple[Tensor, Tensor]) -> DAAMOutput:
        """Images [B, 3, H, W] to the three classifiers' logits.

        ``domains``: of each image, 0 source or 1 target, int64 [B]; or the rows of the source's images and those of the target's,
        int64 [S] and [T]. Whoever has the rows gives them: to find them on a GPU, the host waits for it.
        """
        source_S, target_T = domains if isinstance(domains, tuple) else ((domains == side).nonzero()[:, 0] for side in (0, 1))
        shared_Bchw, specific_Bchw = self.split(x_BCHW)
        pooled_Bc = pool(shared_Bchw, self.gem)
        f_sh_Bc = through(self.neck, pooled_Bc)
        return DAAMOutput(
            source_logits_SN=self.source_head(f_sh_Bc.index_select(0, source_S)),
            target_logits_TK=self.target_head(f_sh_Bc.index_select(0, target_T)) if self.target_head is not None else None,
            domain_logits_B2=self.domain_head(pool(specific_Bchw)) if self.domain_head is not None else None,
            pooled_Bc=pooled_Bc,
        )

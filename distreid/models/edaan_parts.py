"""The building blocks of EDAAN (Khatun et al., Figure 3): encoder, decoder, attention network, discriminator.

The figure is not in the paper's text. Decided: the attention-guided CycleGAN family with instance norm; every size is an argument.
Images are signed, [B, 3, H, W] in [-1, 1].
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distreid.models.encoder import Pooling, gem, pool
from distreid.models.norm import batch_norm


class ResidualBlock(nn.Module):
    """x + IN(conv(ReLU(IN(conv(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(channels, channels, 3), nn.ReLU(inplace=True), *_convolution(channels, channels, 3)
        )  # fmt: skip

    def forward(self, x_Bchw: Tensor) -> Tensor:
        return x_Bchw + self.body(x_Bchw)


class Encoder(nn.Module):
    """E: an image to a feature map [B, 4 * width, H/4, W/4]."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.channels = 4 * width
        self.body = nn.Sequential(
            *_convolution(3, width, 7), nn.ReLU(inplace=True),
            *_convolution(width, 2 * width, 3, stride=2), nn.ReLU(inplace=True),
            *_convolution(2 * width, 4 * width, 3, stride=2), nn.ReLU(inplace=True),
            *(ResidualBlock(4 * width) for _ in range(blocks)),
        )  # fmt: skip

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.body(x_BCHW)


class Decoder(nn.Module):
    """G: the encoder's feature map to an image in (-1, 1)."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(ResidualBlock(4 * width) for _ in range(blocks)),
            nn.Upsample(scale_factor=2, mode="nearest"), *_convolution(4 * width, 2 * width, 3), nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="nearest"), *_convolution(2 * width, width, 3), nn.ReLU(inplace=True),
            nn.Conv2d(width, 3, 7, padding=3, padding_mode="reflect"),
        )  # fmt: skip

    def forward(self, f_Bchw: Tensor) -> Tensor:
        return torch.tanh(self.body(f_Bchw).float())


class AttentionNetwork(nn.Module):
    """A(x) in (0, 1), [B, 1, H, W]: 1 where the image is kept (foreground), 0 where it is translated.

    Decided: the prose gives the background the high scores, Equations 1 and 2 the foreground; the equations are followed.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(3, width, 7), nn.ReLU(inplace=True),
            *_convolution(width, 2 * width, 3, stride=2), nn.ReLU(inplace=True),
            *_convolution(2 * width, 2 * width, 3, stride=2), nn.ReLU(inplace=True),
            ResidualBlock(2 * width),
            nn.Upsample(scale_factor=2, mode="nearest"), *_convolution(2 * width, 2 * width, 3), nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="nearest"), *_convolution(2 * width, width, 3), nn.ReLU(inplace=True),
            nn.Conv2d(width, 1, 7, padding=3, padding_mode="reflect"),
        )  # fmt: skip

    def start_at(self, value: float) -> None:
        """Make A ``value`` everywhere until training moves it, so that the losses and no chance decide what is kept first."""
        last = self.body[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, math.log(value / (1 - value)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.sigmoid(self.body(x_BCHW).float())


class Discriminator(nn.Module):
    """D: a patch discriminator, one logit (positive: real) for every patch; [B, 1, h, w].

    Args:
        layers: convolutions of stride 2; 3 sees patches of 70 x 70 pixels.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        body: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels = width
        for number in range(layers):
            wider = min(2 * channels, 8 * width)
            stride = 2 if number + 1 < layers else 1
            body += [nn.Conv2d(channels, wider, 4, stride=stride, padding=1), _instance_norm(wider), nn.LeakyReLU(0.2)]
            channels = wider
        self.body = nn.Sequential(*body, nn.Conv2d(channels, 1, 4, padding=1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.body(x_BCHW).float()


class ReIDHead(nn.Module):
    """From the encoder's feature map to identities and an embedding.

    Classifier: 128-d FC, BatchNorm, dropout, ReLU, FC to the identities (the paper's order); embedding: FC to 128.
    Decided: before the pooling come ``stages`` residual stages of stride 2 with BatchNorm, each doubling the channels. The paper
    is silent, and without them the pooled vector says little: an instance-normalised map has the same mean in every image.

    Args:
        channels: of the encoder's feature map.
        pooling: gem is not the paper's.
    """

    HIDDEN = 128

    def __init__(self, channels: int, identities: int, *, stages: int, dropout: float, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.stages = nn.Sequential(*(_Stage(channels << number) for number in range(stages)))
        self.channels = channels << stages
        self.dropout = dropout
        self.hidden = nn.Linear(self.channels, self.HIDDEN)
        self.norm = batch_norm(self.HIDDEN)
        self.classifier = nn.Linear(self.HIDDEN, identities)
        self.embedding = nn.Linear(self.channels, self.HIDDEN)
        self.gem = gem(pooling)

    def pool(self, f_Bchw: Tensor) -> Tensor:
        """The feature vector, float32 [B, channels]."""
        return pool(self.stages(f_Bchw), self.gem)

    def forward(self, f_Bchw: Tensor, keep_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, identities] and embeddings [B, 128].

        Args:
            keep_BD: which hidden units dropout keeps, bool [B, 128]: drawn by the caller for the whole global batch, so that
                the number of workers does not change them.
        """
        v_Bc = self.pool(f_Bchw)
        hidden_BD = self.norm(self.hidden(v_Bc)[:, :, None, None])[:, :, 0, 0]
        hidden_BD = F.relu(hidden_BD * keep_BD / (1 - self.dropout))
        return self.classifier(hidden_BD).float(), self.embedding(v_Bc).float()


class _Stage(nn.Module):
    """A residual block of stride 2 that doubles the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False),
            batch_norm(2 * channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, bias=False),
            batch_norm(2 * channels),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, stride=2, bias=False), batch_norm(2 * channels))

    def forward(self, x_Bchw: Tensor) -> Tensor:
        return F.relu(self.body(x_Bchw) + self.shortcut(x_Bchw))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Conv2d, nn.InstanceNorm2d]:
    # No bias: the norm would take it away.
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, padding_mode="reflect", bias=False)
    return convolution, _instance_norm(outputs)


def _instance_norm(channels: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(channels, eps=1e-5, affine=False, track_running_stats=False)  # as CycleGAN's: nothing is learnt

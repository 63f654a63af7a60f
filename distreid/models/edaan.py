"""The EDAAN network (Khatun et al., Figure 2): two attention-guided translators, two discriminators, a re-ID head.

Images are signed: [-1, 1], which is the loader's normalisation by this network's mean and deviation.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from distreid.models.backbone import Colour
from distreid.models.edaan_parts import AttentionNetwork, Decoder, Discriminator, Encoder, ReIDHead
from distreid.models.encoder import Pooling
from distreid.models.network import ReIDNetwork, parameters_of


@dataclass(frozen=True)
class Sizes:
    """Widths and depths. ``width`` is the first layer's channels of a generator; its feature map has four times as many."""

    width: int = 64
    encoder_blocks: int = 4
    decoder_blocks: int = 5
    attention_width: int = 32
    attention_start: float = 0.5
    discriminator_width: int = 64
    discriminator_layers: int = 3
    reid_stages: int = 2
    dropout: float = 0.5


@dataclass(frozen=True)
class Translation:
    """A batch and what became of it; [B, ...] each."""

    features_Bchw: Tensor  # E(x)
    generated_BCHW: Tensor  # G(E(x)), before the mask
    mask_B1HW: Tensor | None  # A(x), the foreground; None without attention
    image_BCHW: Tensor  # Eq. 1 or 2


def compose(mask_B1HW: Tensor | None, generated_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
    """Eq. 1 and 2: (1 - A) * G(E(x)) + A * x; without attention the generated image alone."""
    return generated_BCHW if mask_B1HW is None else (1 - mask_B1HW) * generated_BCHW + mask_B1HW * x_BCHW


def attended(image_BCHW: Tensor, mask_B1HW: Tensor | None, threshold: float) -> Tensor:
    """What a discriminator sees after its whole-image epochs: the translated region, grey (0) elsewhere.

    Decided: the region is where 1 - A reaches ``threshold`` (0: weighted by 1 - A itself); no gradient flows through the mask,
    which would learn to hide from the discriminator.
    """
    if mask_B1HW is None:
        return image_BCHW
    background_B1HW = 1 - mask_B1HW.detach()
    return image_BCHW * (background_B1HW if threshold == 0 else (background_B1HW >= threshold).to(image_BCHW.dtype))


class Translator(nn.Module):
    """One direction: encoder, decoder, attention. Eq. 1 is ``source``, G(x) of S to T; Eq. 2 is ``target``, F(x) of T to S."""

    def __init__(self, sizes: Sizes, *, attention: bool) -> None:
        super().__init__()
        self.encoder = Encoder(sizes.width, sizes.encoder_blocks)
        self.decoder = Decoder(sizes.width, sizes.decoder_blocks)
        self.attention = AttentionNetwork(sizes.attention_width) if attention else None

    def forward(self, x_BCHW: Tensor) -> Translation:
        features_Bchw = self.encoder(x_BCHW)
        generated_BCHW = self.decoder(features_Bchw)
        mask_B1HW = self.attention(x_BCHW) if self.attention is not None else None
        return Translation(features_Bchw, generated_BCHW, mask_B1HW, compose(mask_B1HW, generated_BCHW, x_BCHW))


class EDAAN(ReIDNetwork):
    """All networks of a run.

    Args:
        identities: N_ids, classes of the re-ID head.
        encoder: ``shared``: the head stands on E_S (EDAAN, end to end); ``own``: on an encoder of its own (DAAN and CycleGAN, two
            stages); ``alone``: the same without translators (direct transfer, supervised training).
        attention: whether the translators have attention networks.
        pooling: of the re-ID head; gem is not the paper's.
        feature: what is matched at test time, ``embedding`` (128-d) or ``pooled`` (the vector that both heads start from).
    """

    mean: Colour = (0.5, 0.5, 0.5)  # pixels in [0, 1] to [-1, 1]
    std: Colour = (0.5, 0.5, 0.5)
    unsaid = (mean, std)

    def __init__(
        self,
        identities: int,
        sizes: Sizes,
        *,
        encoder: Literal["shared", "own", "alone"] = "shared",
        attention: bool = True,
        pooling: Pooling = "mean",
        feature: Literal["embedding", "pooled"] = "embedding",
    ) -> None:
        super().__init__()
        translating = encoder != "alone"
        self.source = Translator(sizes, attention=attention) if translating else None
        self.target = Translator(sizes, attention=attention) if translating else None
        width, layers = sizes.discriminator_width, sizes.discriminator_layers
        self.source_discriminator = Discriminator(width, layers) if translating else None
        self.target_discriminator = Discriminator(width, layers) if translating else None
        self.own_encoder = Encoder(sizes.width, sizes.encoder_blocks) if encoder != "shared" else None
        self.head = ReIDHead(self.encoder.channels, identities, stages=sizes.reid_stages, dropout=sizes.dropout, pooling=pooling)
        self.feature = feature
        for part in (self.source, self.target, self.source_discriminator, self.target_discriminator):
            if part is not None:
                part.apply(_initialise)
        for translator in (self.source, self.target):
            if translator is not None and translator.attention is not None:
                translator.attention.start_at(sizes.attention_start)

    @property
    def encoder(self) -> Encoder:
        """The re-ID backbone: E_S where it is shared."""
        if self.own_encoder is not None:
            return self.own_encoder
        assert self.source is not None
        return self.source.encoder

    @property
    def feature_channels(self) -> int:
        return self.head.HIDDEN if self.feature == "embedding" else self.head.channels

    def features(self, x_BCHW: Tensor) -> Tensor:
        """For matching: float32 [B, feature_channels], not normalised; the encoder sees the images as they are."""
        v_Bc = self.head.pool(self.encoder(x_BCHW))
        return self.head.embedding(v_Bc).float() if self.feature == "embedding" else v_Bc

    def attention_parameters(self) -> list[nn.Parameter]:
        networks = [side.attention for side in (self.source, self.target) if side is not None]
        return parameters_of(networks)

    def discriminators(self) -> list[Discriminator]:
        return [network for network in (self.source_discriminator, self.target_discriminator) if network is not None]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

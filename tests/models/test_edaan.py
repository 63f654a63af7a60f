"""EDAAN's networks: the mask equations pixel by pixel, shapes, and what is shared."""

from __future__ import annotations

import pytest
import torch

from distreid.models import EDAAN, Sizes, attended, compose, group_batchnorm
from distreid.models.edaan import parameters_of

SMALL = Sizes(width=4, encoder_blocks=1, decoder_blocks=1, attention_width=4, discriminator_width=4, discriminator_layers=2)


def images(seed: int = 0, n: int = 3) -> torch.Tensor:
    return 2 * torch.rand(n, 3, 16, 8, generator=torch.Generator().manual_seed(seed)) - 1


def test_equation_1_pixel_by_pixel() -> None:
    mask, generated, x = torch.rand(2, 1, 3, 2), images(0, 2)[..., :3, :2], images(1, 2)[..., :3, :2]
    out = compose(mask, generated, x)
    for b in range(2):
        for c in range(3):
            for i in range(3):
                for j in range(2):
                    a = float(mask[b, 0, i, j])
                    expected = (1 - a) * float(generated[b, c, i, j]) + a * float(x[b, c, i, j])
                    assert float(out[b, c, i, j]) == pytest.approx(expected, abs=1e-6)
    assert compose(None, generated, x) is generated


def test_a_translation_keeps_the_foreground_and_replaces_the_background() -> None:
    torch.manual_seed(0)
    model = EDAAN(5, SMALL)
    x = images()
    assert model.source is not None
    out = model.source(x)
    assert out.mask_B1HW is not None and out.mask_B1HW.shape == (3, 1, 16, 8) and out.features_Bchw.shape == (3, 16, 4, 2)
    assert float(out.mask_B1HW.detach().min()) > 0 and float(out.mask_B1HW.detach().max()) < 1
    torch.testing.assert_close(out.image_BCHW, (1 - out.mask_B1HW) * out.generated_BCHW + out.mask_B1HW * x)
    assert float(out.image_BCHW.detach().abs().max()) <= 1
    without = EDAAN(5, SMALL, attention=False)
    assert without.source is not None and without.source(x).mask_B1HW is None and not without.attention_parameters()


def test_the_discriminator_sees_the_background_and_the_mask_gets_no_gradient() -> None:
    x, mask = images(n=1), torch.rand(1, 1, 16, 8, requires_grad=True)
    hard, soft = attended(x, mask, 0.5), attended(x, mask, 0.0)
    for i in range(16):
        for j in range(8):
            background = 1 - float(mask.detach()[0, 0, i, j])
            torch.testing.assert_close(hard[0, :, i, j], x[0, :, i, j] * float(background >= 0.5))
            torch.testing.assert_close(soft[0, :, i, j], x[0, :, i, j] * background)
    assert not hard.requires_grad and not soft.requires_grad
    assert attended(x, None, 0.5) is x


def test_the_reid_head_stands_on_the_source_encoder_only_end_to_end() -> None:
    shared, own, alone = (EDAAN(5, SMALL, encoder=how) for how in ("shared", "own", "alone"))  # type: ignore[arg-type]
    assert shared.source is not None and shared.encoder is shared.source.encoder
    assert own.source is not None and own.encoder is not own.source.encoder
    assert alone.source is None and alone.discriminators() == []
    for model in (shared, own, alone):
        assert len(model.state_dict()) == len(set(model.state_dict()))
        names = {id(p): name for name, p in model.named_parameters()}
        assert {id(p) for p in parameters_of([model])} == set(names)
        model.eval()
        assert model.features(images()).shape == (3, 128) and model.feature_channels == 128
    pooled = EDAAN(5, SMALL, feature="pooled").eval()
    assert pooled.features(images()).shape == (3, pooled.feature_channels) == (3, 64)


def test_features_tell_images_apart() -> None:
    """An instance-normalised map has the same mean for every image; the stages before the pooling must undo that."""
    torch.manual_seed(0)
    model = EDAAN(5, SMALL, feature="pooled").eval()
    f = torch.nn.functional.normalize(model.features(images(n=8)).detach())
    assert float((f @ f.T).min()) < 0.999


def test_dropout_is_what_the_caller_draws() -> None:
    torch.manual_seed(0)
    head = group_batchnorm(EDAAN(5, SMALL), 4).head
    head.train()
    f = torch.randn(4, 16, 4, 2)
    everything, nothing = torch.ones(4, 128, dtype=torch.bool), torch.zeros(4, 128, dtype=torch.bool)
    torch.testing.assert_close(head(f, nothing)[0], head.classifier.bias.expand(4, 5))
    assert torch.equal(head(f, everything)[0], head(f, everything)[0])
    torch.testing.assert_close(head(f, everything)[1], head(f, nothing)[1])


def test_the_loader_gives_it_signed_images() -> None:
    from distreid.data.transforms import normalize

    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    torch.testing.assert_close(
        normalize(pixels, EDAAN.mean, EDAAN.std),
        torch.tensor([-1.0, -0.6, 1.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2),
        atol=1e-5,
        rtol=0,
    )

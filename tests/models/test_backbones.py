"""Backbones of every family: built, trained for a step, independent of the other groups, exported; strides and what cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from distreid.actions.export import export
from distreid.common.errors import UserError
from distreid.config import config_from_dict
from distreid.methods.networks import build_model, load_model
from distreid.models import DAAMNet, build_backbone, group_batchnorm
from distreid.training import save_tensors

SIZE = (64, 32)
IMAGENET = (0.485, 0.456, 0.406)
HALF = (0.5, 0.5, 0.5)
# One of each family, with its channels, whether its last stride can be left out, and the mean that its weights want.
TORCHVISION = [
    ("resnet18", 512, True, IMAGENET),
    ("mobilenet_v2", 1280, True, IMAGENET),
    ("mobilenet_v3_small", 576, True, IMAGENET),
    ("efficientnet_b0", 1280, True, IMAGENET),
    ("convnext_tiny", 768, False, IMAGENET),
    ("regnet_y_400mf", 440, True, IMAGENET),
    ("densenet121", 1024, True, IMAGENET),
    ("shufflenet_v2_x0_5", 1024, True, IMAGENET),
    ("mnasnet0_5", 1280, True, IMAGENET),
]
TIMM = [
    ("timm/test_resnet", 96, True, HALF),
    ("timm/resnet10t", 512, True, IMAGENET),  # average pooling in its shortcuts
    ("timm/test_byobnet", 256, True, IMAGENET),
    ("timm/test_efficientnet", 64, True, IMAGENET),
    ("timm/test_efficientnet_gn", 64, True, HALF),
    ("timm/test_efficientnet_ln", 64, True, IMAGENET),
    ("timm/test_efficientnet_evos", 64, True, HALF),
    ("timm/tf_efficientnet_lite0", 320, True, HALF),
    ("timm/mobilenetv2_100", 320, True, IMAGENET),
    ("timm/test_convnext", 64, False, HALF),
    ("timm/test_nfnet", 192, True, HALF),
    ("timm/test_mambaout", 64, True, IMAGENET),  # channels last
    ("timm/test_vit", 64, False, HALF),
    ("timm/test_vit3", 96, False, HALF),  # built for one size, register tokens
    ("timm/hrnet_w18_small", 1024, False, IMAGENET),  # parts that reach no feature map
]
OWN = [
    ("osnet_x0_25", 128, True, IMAGENET),
    ("osnet_ain_x0_25", 128, True, IMAGENET),
    ("resnet18_ibn_a", 512, True, IMAGENET),
]
ALL = TORCHVISION + TIMM + OWN


@pytest.mark.parametrize(("name", "channels", "has_stride", "mean"), ALL, ids=[family[0] for family in ALL])
def test_every_family_trains_in_groups(name: str, channels: int, has_stride: bool, mean: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, "none", size=SIZE)
    assert (backbone.channels, tuple(backbone.mean)) == (channels, mean)
    model = group_batchnorm(DAAMNet(backbone, 3, attention="none"), 2).train()
    for module in model.modules():  # random paths would hide what depends on the other group
        if type(module).__name__ in ("Dropout", "DropPath", "StochasticDepth"):
            module.eval()
    x_BCHW, other_BCHW = torch.randn(4, 3, *SIZE), torch.randn(4, 3, *SIZE)
    output = model(x_BCHW, torch.tensor([0, 1, 0, 1]))
    assert output.domain_logits_B2 is not None
    loss = output.source_logits_SN.square().mean() + output.domain_logits_B2.square().mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    mixed_BCHW = torch.cat([x_BCHW[:2], other_BCHW[2:]])
    own_Bc, mixed_Bc = model.features(x_BCHW), model.features(mixed_BCHW)
    assert torch.equal(own_Bc[:2], mixed_Bc[:2]) or torch.allclose(own_Bc[:2], mixed_Bc[:2], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(own_Bc[2:], mixed_Bc[2:], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels", "has_stride", "mean"), ALL, ids=[family[0] for family in ALL])
def test_a_last_stride_is_left_out_or_refused(name: str, channels: int, has_stride: bool, mean: tuple[float, ...]) -> None:
    if not has_stride:
        with pytest.raises(UserError, match=f"last_stride=1: {name}"):
            build_backbone(name, "none", 1, SIZE)
        return
    plain, larger = (build_backbone(name, "none", stride, SIZE).eval() for stride in (2, 1))
    larger.load_state_dict(plain.state_dict())
    x_BCHW = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        assert larger(x_BCHW).shape == (1, channels, *(2 * side for side in plain(x_BCHW).shape[2:]))


def test_the_last_stride_is_the_last_stages_in_small_images_too() -> None:
    for size in ((16, 8), (32, 16), (256, 128)):
        body = build_backbone("resnet18", "none", 1, size).body
        strides = [{m.stride[0] for m in stage.modules() if isinstance(m, nn.Conv2d)} for stage in body[4:]]
        assert strides == [{1}, {1, 2}, {1, 2}, {1}]


def test_timms_last_stride_is_torchvisions() -> None:
    ours, theirs = (build_backbone(name, "none", 1, SIZE).eval() for name in ("resnet18", "timm/resnet18"))
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x_BCHW = torch.randn(2, 3, *SIZE)
    torch.testing.assert_close(theirs(x_BCHW), ours(x_BCHW))


def test_transformers_take_the_configured_size_and_end_behind_their_norm() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("timm/vit_tiny_patch16_224", "none", size=(256, 128)).eval()
    with torch.no_grad():
        f_1chw = backbone(torch.randn(1, 3, 256, 128))
    assert f_1chw.shape == (1, 192, 16, 8)
    torch.testing.assert_close(f_1chw.mean(1), torch.zeros(1, 16, 8), atol=1e-5, rtol=0)
    assert len(backbone.body.net.blocks) == 12
    with pytest.raises(UserError, match="takes no images of 3 x 3"):
        build_backbone("timm/test_convnext", "none", size=(3, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm/test_byobnet", "timm/test_vit3"])
def test_export_has_the_networks_own_normalisation(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    settings = {
        "output": "run", "source": {"data": "a"}, "target": {"data": "b"}, "input": {"height": SIZE[0], "width": SIZE[1]},
        "model": {"backbone": name, "weights": "none", "attention": "none"},
    }  # fmt: skip
    torch.manual_seed(0)
    model = build_model(config_from_dict(settings), 3)
    saved = {
        "format": 1,
        "config": settings,
        "identities": 3,
        "model": model.state_dict(),
        "normalisation": (model.mean, model.std),
    }
    save_tensors(tmp_path / "c.pt", saved)
    assert load_model(tmp_path / "c.pt")[0].mean == model.mean
    assert export(tmp_path / "c.pt", tmp_path / "m.onnx").difference < 1e-4  # pixels in, features out, as PyTorch's


def test_a_checkpoint_of_0_1_0_keeps_the_normalisation_that_it_was_trained_with(tmp_path: Path) -> None:
    settings = {
        "output": "run", "source": {"data": "a"}, "target": {"data": "b"}, "input": {"height": SIZE[0], "width": SIZE[1]},
        "model": {"backbone": "timm/test_resnet", "weights": "none"},
    }  # fmt: skip
    model = build_model(config_from_dict(settings), 3)
    assert tuple(model.mean) == HALF
    save_tensors(tmp_path / "c.pt", {"format": 1, "config": settings, "identities": 3, "model": model.state_dict()})
    assert tuple(load_model(tmp_path / "c.pt")[0].mean) == IMAGENET


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
def test_timms_batchnorm_with_activation_is_grouped_exactly(activation: type[nn.Module]) -> None:
    layers = pytest.importorskip("timm.layers", reason="the extra 'timm' is not installed")

    def make() -> nn.Module:
        torch.manual_seed(3)
        layer = layers.BatchNormAct2d(5, act_layer=activation)
        nn.init.uniform_(layer.weight)
        nn.init.uniform_(layer.bias)
        return layer

    grouped, x_BCHW = group_batchnorm(nn.Sequential(make()), 4), 3 * torch.randn(12, 5, 3, 2)
    parts = [make() for _ in range(3)]
    expected = torch.cat([part(group) for part, group in zip(parts, x_BCHW.split(4), strict=True)])
    torch.testing.assert_close(grouped(x_BCHW), expected)
    for key in ("running_mean", "running_var"):
        mean = torch.stack([getattr(part, key) for part in parts]).mean(0)
        torch.testing.assert_close(getattr(grouped[0], key), mean)
    assert list(grouped[0].state_dict()) == list(parts[0].state_dict())
    odd, plain = torch.randn(7, 5, 3, 2), make().eval()
    plain.load_state_dict(grouped[0].state_dict())
    torch.testing.assert_close(grouped.eval()(odd), plain(odd))


class _Own(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x.mean()


@pytest.mark.parametrize("layer", [nn.SyncBatchNorm(4), nn.BatchNorm1d(4), _Own(4), nn.BatchNorm2d(4, momentum=None)])
def test_statistics_that_cannot_be_grouped_are_refused_in_a_line(layer: nn.Module) -> None:
    with pytest.raises(UserError, match=rf"{type(layer).__name__} \(0\) takes statistics of the whole batch"):
        group_batchnorm(nn.Sequential(layer), 2)


def test_batch_evonorm_is_refused() -> None:
    layers = pytest.importorskip("timm.layers", reason="the extra 'timm' is not installed")
    with pytest.raises(UserError, match="EvoNorm2dB0"):
        group_batchnorm(nn.Sequential(layers.EvoNorm2dB0(4)), 2)

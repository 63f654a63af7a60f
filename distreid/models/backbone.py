"""Backbones: an image batch in, the feature map F of shape [B, c, h, w] out."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distreid.errors import UserError


class Backbone(nn.Module):
    """A network that yields a feature map, and its number of channels c (2048 for ResNet-50)."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.channels = channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.body(x_BCHW)


def build_backbone(name: str = "resnet50", weights: str = "imagenet", last_stride: int = 2) -> Backbone:
    """Build a backbone without its pooling and classifier.

    Args:
        name: a torchvision ResNet (``resnet18``, ``resnet50``, ``resnext50_32x4d``, ...) or ``timm/NAME`` for any timm model
            that yields feature maps (extra ``timm``).
        weights: ``imagenet`` (downloaded by the library), ``none``, or the path of a state dict.
        last_stride: stride of the last ResNet stage, 2 (plain) or 1 (a feature map twice as large, the later re-ID habit).

    Raises:
        UserError: unknown name, weights that cannot be had or that do not fit.
    """
    if name.startswith("timm/"):
        return _timm_backbone(name.removeprefix("timm/"), weights)
    from torchvision import models  # two seconds, which the processes that build no backbone are spared

    names = [m for m in models.list_models(models) if m.startswith(("resnet", "resnext", "wide_resnet"))]
    if name not in names:
        raise UserError(f"model.backbone={name} is unknown: choose one of {', '.join(names)}, or timm/NAME")
    net = models.get_model(name, weights=None)
    if last_stride == 1:
        _remove_last_stride(net.layer4)
    if weights == "imagenet":
        net.load_state_dict(_imagenet_weights(name))
    body = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)
    if weights not in ("imagenet", "none"):
        _load_file(net, Path(weights))
    return Backbone(body, net.fc.in_features)


def _remove_last_stride(layer4: nn.Module) -> None:
    for module in layer4.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)


def _imagenet_weights(name: str) -> dict[str, Tensor]:
    from torchvision import models

    try:
        return models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise UserError(
            f"model.weights=imagenet: the weights of {name} could not be downloaded ({error}); "
            "set model.weights to the path of a state dict, or to none to train from scratch"
        ) from None


def _load_file(net: nn.Module, path: Path) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"model.weights={path}: no such file (imagenet, none or a path)") from None
    except Exception as error:
        raise UserError(f"model.weights={path}: not a state dict that can be loaded safely ({type(error).__name__})") from None
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    problems = net.load_state_dict(state, strict=False)
    missing = [key for key in problems.missing_keys if not key.startswith("fc.")]
    if missing or problems.unexpected_keys:
        raise UserError(
            f"model.weights={path}: does not fit this backbone (first odd key: {(missing + problems.unexpected_keys)[0]})"
        )


def _timm_backbone(name: str, weights: str) -> Backbone:
    try:
        import timm
    except ImportError:
        raise UserError(f"model.backbone=timm/{name} needs timm: pip install 'distreid[timm]'") from None
    if weights not in ("imagenet", "none"):
        raise UserError(f"model.weights={weights}: timm backbones take imagenet or none")
    try:
        net: Any = timm.create_model(name, pretrained=weights == "imagenet", features_only=True)
    except (RuntimeError, AttributeError) as error:
        raise UserError(f"model.backbone=timm/{name}: timm cannot build it as a feature map network ({error})") from None
    return Backbone(_LastMap(net), net.feature_info.channels()[-1])


class _LastMap(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.net(x_BCHW)[-1]

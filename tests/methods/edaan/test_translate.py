"""From a trained EDAAN to a translated data set, and DAAM training on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distreid.actions.translate import translate
from distreid.cli import main
from distreid.common.errors import UserError
from distreid.config import Config, config_from_dict
from distreid.data import ImageStore, derive
from distreid.data.loader import Stacked
from distreid.methods.edaan.config import EDAANConfig
from distreid.methods.edaan.translate import png
from distreid.methods.foreground import measure
from distreid.methods.networks import load_model
from distreid.models import EDAAN
from distreid.training.domains import open_domain
from tests.data.layouts import OWN_NAMES, own_images, own_names
from tests.training_runs import edaan_settings, run


@pytest.fixture(scope="module")
def trained(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = config_from_dict(edaan_settings(packed_pair, tmp_path_factory.mktemp("translate") / "run"))
    how = config.group(EDAANConfig)
    how.epochs, how.decay_epochs, how.attention_epochs = 1, 0, 1
    run(config)
    return config


@pytest.mark.slow
def test_a_translated_set_has_the_same_people_and_the_networks_pixels(trained: Config, tmp_path: Path) -> None:
    images, masks, _ = translate(Path(trained.output), None, "market1501", tmp_path, reverse=False, splits=["train", "query"])
    assert masks is not None
    before, after, attention = ImageStore.open(trained.source.data), ImageStore.open(images), ImageStore.open(masks)
    rows = np.flatnonzero(np.isin(before.splits, ["train", "query"]))
    for store in (after, attention):
        assert np.array_equal(store.pids, before.pids[rows]) and np.array_equal(store.camids, before.camids[rows])
        assert np.array_equal(store.paths, before.paths[rows]) and np.array_equal(store.splits, before.splits[rows])
        assert store.sizes_N2.tolist() == [[8, 16]] * len(rows)
    model, _, _ = load_model(Path(trained.output))
    assert isinstance(model, EDAAN) and model.source is not None
    row = 5
    x = before.read([rows[row]], 16, 8).float() / 127.5 - 1
    with torch.inference_mode():
        done = model.source(x)
    assert done.mask_B1HW is not None
    expected = (done.image_BCHW + 1) * 127.5
    assert float((after.read([row], 16, 8).float() - expected).abs().max()) <= 1
    assert float((attention.read([row], 16, 8)[:, :1].float() / 255 - done.mask_B1HW).abs().max()) <= 1 / 255


def test_what_changed_is_measured_against_the_true_masks(trained: Config, packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    store = ImageStore.open(trained.source.data)
    # A truth made of the attention itself has an IoU of 1.
    _, masks, _ = translate(Path(trained.output), None, "market1501", tmp_path / "one")
    assert masks is not None
    attention = ImageStore.open(masks)
    for row, path in enumerate(attention.paths.tolist()):
        file = (tmp_path / "truth" / path).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        attention.decode(row).point(lambda level: 255 if level >= 128 else 0).save(file)
    images, _, figures = translate(Path(trained.output), None, "market1501", tmp_path / "two", ground_truth=tmp_path / "truth")
    assert figures["foreground_iou"] == 1 and set(figures) == {"foreground_iou", "foreground_changed", "background_changed"}
    assert 0 <= figures["foreground_changed"] <= 1
    with pytest.raises(UserError, match="no such mask"):
        translate(Path(trained.output), None, "market1501", tmp_path / "three", ground_truth=tmp_path)
    same = measure(store, tmp_path / "truth", _unchanged(store, images, tmp_path / "same.arrow"), None)
    assert same == {"foreground_changed": 0, "background_changed": 0}


def _unchanged(store: ImageStore, like: Path, out: Path) -> Path:
    """The images that a translation that does nothing would give."""
    rows = np.flatnonzero(np.isin(store.paths, ImageStore.open(like).paths))
    pixels = store.read(rows, 16, 8).permute(0, 2, 3, 1).numpy()
    derive(store, rows, [png(image) for image in pixels], out, height=16, width=8, note="the same")
    return out


def test_ones_own_images_are_read_by_a_pattern(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own_names(tmp_path / "own")
    how = ["--data", str(tmp_path / "own"), "--format", "names", "--pattern", OWN_NAMES]
    main(["translate", trained.output, str(tmp_path / "out"), *how])
    assert "images.arrow" in capsys.readouterr().out
    assert set(ImageStore.open(tmp_path / "out" / "images.arrow").pids) == {pid for pid, _, _ in own_images()}


def test_the_reverse_translates_the_target(trained: Config, tmp_path: Path) -> None:
    images, _, _ = translate(Path(trained.output), None, "market1501", tmp_path, reverse=True, splits=["train"])
    store = ImageStore.open(images)
    assert store.name == ImageStore.open(trained.target.data).name and "style of day" in store.summary.notes[0]


@pytest.mark.slow
def test_daam_takes_a_translation_as_more_labelled_source_images(
    trained: Config, tmp_path: Path, small_config: Callable[..., Config]
) -> None:
    images, _, _ = translate(Path(trained.output), None, "market1501", tmp_path)
    config = small_config("source.identities=[0, 6]", "pretrain.epochs=1", "adapt.rounds=0")
    plain = open_domain(config.source, labelled=True)
    config.source.extra = str(images)
    both = open_domain(config.source, labelled=True)
    assert plain.labels is not None and both.labels is not None
    assert both.identities == plain.identities == 6 and len(both.train) == len(both.labels) == 2 * len(plain.train)
    assert np.array_equal(both.labels[: len(plain.train)], plain.labels)
    assert sorted(both.labels[len(plain.train) :]) == sorted(plain.labels)
    assert both.content != plain.content and both.test is not None
    assert np.isfinite(run(config)["direct_transfer"]["mAP"])


def test_an_extra_set_of_other_people_and_an_extra_target_are_refused(packed_pair: tuple[Path, Path], small_config) -> None:
    with pytest.raises(UserError, match=r"target\.extra is not possible"):
        small_config(f"target.extra={packed_pair[0]}")
    config = small_config("source.identities=[0, 6]")
    config.source.extra = config.source.data
    config.source.cameras = [1]
    assert open_domain(config.source, labelled=True).train.rows.size > 0


@pytest.mark.slow
def test_only_edaan_translates(trained: Config, tmp_path: Path, small_config: Callable[..., Config]) -> None:
    daam = small_config("pretrain.epochs=1", "adapt.rounds=0")
    run(daam)
    with pytest.raises(UserError, match="only edaan translates"):
        translate(Path(daam.output), None, "market1501", tmp_path / "out")
    with pytest.raises(UserError, match="no image of spare"):
        translate(Path(trained.output), None, "market1501", tmp_path / "out", reverse=False, splits=["spare"])


def test_stacked_stores_read_each_row_from_its_own() -> None:
    class Flat:
        def __init__(self, base: int) -> None:
            self.base = base

        def read(self, indices: np.ndarray, height: int, width: int) -> torch.Tensor:
            return torch.from_numpy((self.base + indices).astype(np.uint8))[:, None, None, None].expand(-1, 3, height, width)

    both = Stacked((Flat(0), np.array([3, 1])), (Flat(100), np.array([7, 8, 9])))
    assert len(both) == 5
    assert both.read(np.array([4, 0, 2, 1, 3]), 2, 2)[:, 0, 0, 0].tolist() == [109, 3, 107, 1, 108]

"""What `distreid info` shows."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distreid.common.errors import UserError
from distreid.data.info import CELL_HEIGHT, CELL_WIDTH, MARGIN, contact_sheet, describe, format_description
from distreid.data.store import ImageStore
from tests.data.layouts import market, market_name, noise, packed, small_market


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    root = tmp_path_factory.mktemp("info")
    return packed(small_market(root / "Market"), root / "market.arrow")


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    root = tmp_path_factory.mktemp("plain")
    for number in range(7):
        noise(root / "crops" / f"{number}.png", 64, 128 + number)
    return packed(root / "crops", root / "crops.arrow", format="folder")


def test_counts_per_split_and_camera(store: ImageStore) -> None:
    description = describe(store)
    assert description["splits"] == {
        "train": {"images": 24, "identities": 4, "cameras": {1: 8, 2: 8, 3: 8}},
        "query": {"images": 4, "identities": 2, "cameras": {1: 2, 2: 2}},
        "gallery": {"images": 6, "identities": 2, "cameras": {1: 3, 2: 3}},
    }
    assert description["bytes"] == store.path.stat().st_size
    assert description["height"] == {"min": 16, "median": 16, "max": 16}
    json.dumps(description)


def test_text(store: ImageStore) -> None:
    lines = format_description(describe(store)).splitlines()
    assert lines[0].startswith("Market (format market1501): 34 images of 8 by 16 pixels")
    assert [line.split() for line in lines[1:5]] == [
        ["images", "identities", "camera", "1", "camera", "2", "camera", "3"],
        ["train", "24", "4", "8", "8", "8"],
        ["query", "4", "2", "2", "2", "0"],
        ["gallery", "6", "2", "3", "3", "0"],
    ]
    assert len({len(line) for line in lines[1:5]}) == 1
    assert "- gallery: 2 junk images (-1) left out" in lines
    assert store.content_hash in lines[-1]


def test_text_without_labels(unlabelled: ImageStore) -> None:
    lines = format_description(describe(unlabelled)).splitlines()
    assert "64 by 128 to 134 pixels" in lines[0]
    assert [line.split() for line in lines[1:3]] == [["images", "identities"], ["train", "7", "unknown"]]


def cell(sheet: Image.Image, down: int, across: int) -> np.ndarray:
    step_x = CELL_WIDTH + MARGIN
    step_y = (sheet.height - MARGIN) // 4
    x, y = MARGIN + across * step_x, MARGIN + down * step_y
    return np.asarray(sheet.crop((x, y, x + CELL_WIDTH, y + CELL_HEIGHT)))


def test_contact_sheet_has_an_identity_a_row(store: ImageStore, tmp_path: Path) -> None:
    contact_sheet(store, tmp_path / "new" / "sheet.png", columns=3)
    sheet = Image.open(tmp_path / "new" / "sheet.png")
    for down, pid in enumerate((2, 7, 9, 11)):
        for across, camid in enumerate((1, 2, 3)):
            row = store.paths.tolist().index(f"bounding_box_train/{pid:04d}_c{camid}s1_000005_01.jpg")
            expected = store.decode(row).resize((CELL_WIDTH, CELL_HEIGHT), Image.Resampling.BICUBIC)
            assert np.array_equal(cell(sheet, down, across), np.asarray(expected))


def test_contact_sheet_orders_a_row_by_camera_number(tmp_path: Path) -> None:
    names = [market_name(pid, camid, 1) for pid in (1, 2, 3, 4) for camid in (10, 2)]
    store = packed(market(tmp_path / "m", train=names), tmp_path / "m.arrow")
    contact_sheet(store, tmp_path / "sheet.png", columns=2)
    first = store.decode(int(np.flatnonzero((store.pids == 1) & (store.camids == 2))[0]))
    expected = first.resize((CELL_WIDTH, CELL_HEIGHT), Image.Resampling.BICUBIC)
    assert np.array_equal(cell(Image.open(tmp_path / "sheet.png"), 0, 0), np.asarray(expected))


def test_contact_sheet_of_unlabelled_images(unlabelled: ImageStore, tmp_path: Path) -> None:
    contact_sheet(unlabelled, tmp_path / "sheet.png", rows=4, columns=2)
    sheet = Image.open(tmp_path / "sheet.png")
    for number in range(7):
        expected = unlabelled.decode(number).resize((CELL_WIDTH, CELL_HEIGHT), Image.Resampling.BICUBIC)
        assert np.array_equal(cell(sheet, number // 2, number % 2), np.asarray(expected))


def test_contact_sheet_that_cannot_be_written(unlabelled: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "sheet.png").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        contact_sheet(unlabelled, tmp_path / "sheet.png")


def test_a_sheet_is_a_png(store: ImageStore, tmp_path: Path) -> None:
    """It would be a PNG by another name."""
    with pytest.raises(UserError, match=r"sheet\.jpg: a contact sheet is written to a NAME\.png"):
        contact_sheet(store, tmp_path / "sheet.jpg")
    assert not list(tmp_path.iterdir())

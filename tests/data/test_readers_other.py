"""Plain folders, MSMT17's lists and PRID2011."""

import os
from pathlib import Path

import pytest

from distreid.data.readers import read_dataset
from distreid.data.records import UNKNOWN
from tests.data.layouts import noise
from tests.data.test_readers_market import refused


def test_folder_takes_every_image_below_in_path_order(tmp_path: Path) -> None:
    names = ["b/2.png", "b/10.jpg", "a.JPEG", "B.bmp", "b/c/d/e.jpg"]
    for name in names:
        noise(tmp_path / name)
    for name in ("Thumbs.db", "b/.DS_Store", ".hidden/1.jpg", "__MACOSX/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    dataset = read_dataset(tmp_path, "folder")
    assert [record.path.relative_to(tmp_path).as_posix() for record in dataset.records] == sorted(names)
    assert {(record.pid, record.camid, record.split) for record in dataset.records} == {(UNKNOWN, UNKNOWN, "train")}
    assert dataset.notes == ("train: 5 images, identities and cameras unknown",)
    (tmp_path / "labels.csv").touch()
    assert read_dataset(tmp_path, "folder").notes[-1] == "1 other file ignored"


def test_folder_follows_links_once(tmp_path: Path) -> None:
    noise(tmp_path / "elsewhere" / "1.jpg")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "root")
    dataset = read_dataset(tmp_path / "root", "folder")
    assert [record.path for record in dataset.records] == [tmp_path / "root" / "link" / "1.jpg"]


def test_folder_without_images(tmp_path: Path) -> None:
    refused(tmp_path, "the folder is empty", format="folder")
    (tmp_path / "notes.txt").touch()
    refused(tmp_path, str(tmp_path), "no image in it or below it", format="folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir(mode=0)
    refused(tmp_path, "secret", "Permission denied", format="folder")


MSMT_LISTS = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0015_0.jpg 0", "0001/0001_000_14_0303noon_0001_1.jpg 1"],
    "list_val.txt": ["0000/0000_001_02_0303morning_0016_0.jpg 0"],
    "list_query.txt": ["0000/0000_000_03_0113morning_0001_0.jpg 0"],
    "list_gallery.txt": ["0000/0000_001_15_0113morning_0002_0.jpg 0"],
}


def msmt(root: Path, train: str = "train", test: str = "test") -> Path:
    for name, lines in MSMT_LISTS.items():
        folder = root / (train if name in ("list_train.txt", "list_val.txt") else test)
        for line in lines:
            noise(folder / line.split()[0])
        (root / name).write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17(tmp_path: Path, train: str, test: str) -> None:
    dataset = read_dataset(msmt(tmp_path, train, test), "msmt17")
    found = [(r.path.relative_to(tmp_path).as_posix(), r.pid, r.camid, r.split) for r in dataset.records]
    assert found == [
        (f"{train}/0000/0000_000_01_0303morning_0015_0.jpg", 0, 1, "train"),
        (f"{train}/0000/0000_001_02_0303morning_0016_0.jpg", 0, 2, "train"),
        (f"{train}/0001/0001_000_14_0303noon_0001_1.jpg", 1, 14, "train"),
        (f"{test}/0000/0000_000_03_0113morning_0001_0.jpg", 0, 3, "query"),
        (f"{test}/0000/0000_001_15_0113morning_0002_0.jpg", 0, 15, "gallery"),
    ]
    assert dataset.notes[0] == "train: 3 images of 2 identities (MSMT17 as published: 32,621 of 1,041)"


def test_msmt17_unlisted_images_and_absent_lists_are_noted(tmp_path: Path) -> None:
    root = msmt(tmp_path)
    noise(root / "train" / "0002" / "0002_000_01_0303morning_0015_0.jpg")
    (root / "list_val.txt").unlink()
    notes = read_dataset(root, "msmt17").notes
    assert "no list_val.txt: its images are not used" in notes
    assert "2 images in no list ignored" in notes


def test_msmt17_bad_input(tmp_path: Path) -> None:
    root = msmt(tmp_path / "MSMT17_V1")
    refused(tmp_path, f"did you mean {root}?", format="msmt17")
    refused(root / "train", "part of the data set", str(root), format="msmt17")
    listed = root / "list_query.txt"
    listed.write_text("0000/0000_000_03_0113morning_0001_0.jpg\n")
    refused(root, str(listed), "1 line not of the form", "line 1", format="msmt17")
    listed.write_text("/etc/0000_000_03_0113morning_0001_0.jpg 0\n")
    refused(root, str(listed), "1 line not of the form", format="msmt17")
    listed.write_text("0000/0000_000_03_0113morning_0001_0.jpg 0\n" * 2)
    refused(root, "listed more than once", "test/0000/0000_000_03", format="msmt17")
    listed.write_text("0000/0000_000_03_0113morning_0001_0.jpg 0\n0000/0000_000_04_0113morning_0001_0.jpg 0\n")
    refused(root, "1 of 6 listed images missing: test/0000/0000_000_04", format="msmt17")
    listed.write_text("\n")
    refused(root, str(listed), "the list is empty", format="msmt17")
    (root / "mask_train_v2").mkdir()
    refused(root, "V1", "V2", "keep one", format="msmt17")


def test_msmt17_lists_without_images(tmp_path: Path) -> None:
    (tmp_path / "list_train.txt").write_text(MSMT_LISTS["list_train.txt"][0])
    refused(tmp_path, "lists but no images", format="msmt17")


def prid(root: Path) -> Path:
    """People 1-4 in both cameras, 5 in A only, 6-8 in B only."""
    for camera, people in (("cam_a", (1, 2, 3, 4, 5)), ("cam_b", (1, 2, 3, 4, 6, 7, 8))):
        for pid in people:
            noise(root / "single_shot" / camera / f"person_{pid:04d}.png")
    return root


def test_prid2011(tmp_path: Path) -> None:
    dataset = read_dataset(prid(tmp_path), "prid2011")
    assert [(record.split, record.camid, record.pid) for record in dataset.records] == [
        *(("train", camid, pid) for camid in (1, 2) for pid in (1, 2)),
        *(("query", 1, pid) for pid in (3, 4)),
        *(("gallery", 2, pid) for pid in (3, 4, 6, 7, 8)),
        ("spare", 1, 5),
    ]
    assert dataset.notes[0] == "cam_a: 5 images (PRID2011 as published: 385)"


def test_prid2011_bad_input(tmp_path: Path) -> None:
    root = prid(tmp_path / "prid_2011")
    refused(root / "single_shot", "give the folder above it", format="prid2011")
    camera = root / "single_shot" / "cam_a"
    noise(camera / "person_1.png")
    refused(root, "person_0001.png and person_1.png show the same person", format="prid2011")
    (camera / "person_1.png").rename(camera / "somebody.png")
    refused(root, str(camera), "1 file name not", "somebody.png", format="prid2011")
    camera.rename(root / "single_shot" / "cam_c")
    refused(root, str(camera), "needs both cameras", format="prid2011")

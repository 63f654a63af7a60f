"""Plain folders, MSMT17's lists and PRID2011."""

import os
from collections import Counter
from pathlib import Path

import pytest

from distreid.data.readers import read_dataset
from distreid.data.records import UNKNOWN
from tests.data.layouts import noise, prid, refused


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
    assert read_dataset(tmp_path, "folder").notes[-1] == "1 other file (1 .csv) ignored"


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


@pytest.mark.parametrize(("encoding", "prefix"), [("utf-8-sig", ""), ("utf-16", ""), ("utf-8", "train/"), ("utf-16", "train/")])
def test_msmt17_lists_of_other_hands(tmp_path: Path, encoding: str, prefix: str) -> None:
    expected = read_dataset(msmt(tmp_path), "msmt17")
    for name in MSMT_LISTS:
        own = prefix.replace("train", "test") if name in ("list_query.txt", "list_gallery.txt") else prefix
        text = "".join(f"{own}{line}\r\n" for line in MSMT_LISTS[name])
        (tmp_path / name).write_bytes(text.encode(encoding))
    assert read_dataset(tmp_path, "msmt17") == expected


def test_one_folder_for_each_identity_is_told_from_an_unfinished_download(tmp_path: Path) -> None:
    noise(tmp_path / "own" / "bounding_box_train" / "0001" / "a.jpg")
    refused(tmp_path / "own", "lie in folders of their own (0001/a.jpg)", "--format folder", format="market1501")
    (tmp_path / "odd" / "bounding_box_train").mkdir(parents=True)
    (tmp_path / "odd" / "bounding_box_train" / "a.jp2").write_bytes(b"x")
    refused(tmp_path / "odd", "no image but 1 other file (1 .jp2)", format="market1501")
    refused(tmp_path / "odd", "no image in it or below it", "but 1 other file (1 .jp2)", format="folder")


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


def test_prid2011(tmp_path: Path) -> None:
    dataset = read_dataset(prid(tmp_path), "prid2011")
    tested = dataset.protocol.test_pids[0]
    trained = sorted({1, 2, 3, 4} - set(tested))
    assert [(record.split, record.camid, record.pid) for record in dataset.records] == [
        *(("train", camid, pid) for camid in (1, 2) for pid in trained),
        *(("query", 1, pid) for pid in tested),
        *(("gallery", 2, pid) for pid in (*tested, 6, 7, 8)),
        ("spare", 1, 5),
    ]
    assert dataset.notes[0] == "cam_a: 5 images of 5 identities (PRID2011 as published: 385 of 385)"


def test_prid2011_at_full_size(tmp_path: Path) -> None:
    root = tmp_path / "prid_2011"
    for camera, pids in (("cam_a", range(1, 386)), ("cam_b", [*range(1, 201), *range(386, 935)])):
        (root / "single_shot" / camera).mkdir(parents=True)
        for pid in pids:
            (root / "single_shot" / camera / f"person_{pid:04d}.png").touch()
    dataset = read_dataset(root, "prid2011")
    assert [note for note in dataset.notes if "as published" in note and ":" in note] == list(dataset.notes)
    assert dataset.notes[1] == "cam_b: 749 images of 749 identities, as published"
    counts = Counter(record.split for record in dataset.records)
    assert counts == {"train": 200, "query": 100, "gallery": 649, "spare": 185}
    protocol = dataset.protocol
    assert (protocol.name, len(protocol.test_pids), {len(set(pids)) for pids in protocol.test_pids}) == ("cross_camera", 10, {100})
    assert len(set(protocol.test_pids)) == 10 and max(max(pids) for pids in protocol.test_pids) <= 200
    (root / "single_shot" / "cam_b" / "person_0934.png").unlink()
    assert read_dataset(root, "prid2011").notes[1].startswith("warning: cam_b: 748 images of 748 identities")


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


@pytest.mark.slow
def test_msmt17_at_full_size(tmp_path: Path) -> None:
    """126,441 names, as many images; the reader opens none."""
    root = tmp_path / "MSMT17_V1"
    sizes = {"list_train.txt": (30_248, 1_041), "list_val.txt": (2_373, 1_041), "list_query.txt": (11_659, 3_060)}
    for number, (name, (images, people)) in enumerate((sizes | {"list_gallery.txt": (82_161, 3_060)}).items()):
        folder = root / ("train" if number < 2 else "test")
        lines = [
            f"{i % people:04d}/{i % people:04d}_{i:05d}_{1 + i // people % 15:02d}_{number}_0.jpg {i % people}"
            for i in range(images)
        ]
        for person in range(people):
            (folder / f"{person:04d}").mkdir(parents=True, exist_ok=True)
        for line in lines:
            os.close(os.open(folder / line.split()[0], os.O_CREAT))
        (root / name).write_text("\n".join(lines))
    dataset = read_dataset(root, "msmt17")
    assert dataset.notes == (
        "train: 32,621 images of 1,041 identities, as published",
        "query: 11,659 images of 3,060 identities, as published",
        "gallery: 82,161 images of 3,060 identities, as published",
    )
    lines = (root / "list_query.txt").read_text().splitlines()
    (root / "list_query.txt").write_text("\n".join(lines[:-9]))
    note = read_dataset(root, "msmt17").notes[2]
    assert note == "warning: query: 11,650 images of 3,060 identities (MSMT17 as published: 11,659 of 3,060; 9 images missing)"


def test_msmt17_queries_without_a_match_are_counted(tmp_path: Path) -> None:
    root = msmt(tmp_path)
    for name, lines in {
        "list_query.txt": ["0001/0001_000_03_0113morning_0001_0.jpg 1", *MSMT_LISTS["list_query.txt"]],
        "list_gallery.txt": ["0001/0001_001_03_0113noon_0001_0.jpg 1", *MSMT_LISTS["list_gallery.txt"]],
    }.items():
        noise(root / "test" / lines[0].split()[0])
        (root / name).write_text("\n".join(lines))
    warning = next(note for note in read_dataset(root, "msmt17").notes if "without" in note)
    assert warning == (
        "warning: 1 query without a gallery image of the same identity under another camera "
        "(0001_000_03_0113morning_0001_0.jpg), left out of all means"
    )

"""Market-1501's layout, and DukeMTMC-reID and CUHK03-NP, which share it."""

from collections import Counter
from pathlib import Path

import pytest

from distreid.data.readers import cuhk03, dukemtmc, market1501, read_dataset
from distreid.data.readers.flat import FlatLayout
from distreid.data.records import Record
from tests.data.layouts import market, market_name, noise, refused, small_market


def test_labels_come_from_names_in_sorted_order(tmp_path: Path) -> None:
    train = [market_name(9, 1, 3), market_name(2, 6, 1), market_name(2, 3, 1)]
    root = market(tmp_path / "Market", train=train, query=[market_name(5, 2, 1)], gallery=[market_name(5, 4, 1)])
    dataset = read_dataset(root, "market1501")
    assert dataset.name == "Market"
    assert dataset.records == (
        Record(root / "bounding_box_train/0002_c3s1_000001_01.jpg", 2, 3, "train"),
        Record(root / "bounding_box_train/0002_c6s1_000001_01.jpg", 2, 6, "train"),
        Record(root / "bounding_box_train/0009_c1s1_000003_01.jpg", 9, 1, "train"),
        Record(root / "query/0005_c2s1_000001_01.jpg", 5, 2, "query"),
        Record(root / "bounding_box_test/0005_c4s1_000001_01.jpg", 5, 4, "gallery"),
    )


def test_junk_leaves_and_distractors_stay(tmp_path: Path) -> None:
    dataset = read_dataset(small_market(tmp_path), "market1501")
    gallery = Counter(record.pid for record in dataset.records if record.split == "gallery")
    assert gallery == {3: 2, 4: 2, 0: 2}
    assert "gallery: 2 junk images (-1) left out" in dataset.notes
    assert "gallery: 2 distractors (0000) kept as negatives" in dataset.notes


def test_distractors_are_no_training_identity(tmp_path: Path) -> None:
    root = market(tmp_path, train=[market_name(0, 1, 1), market_name(-1, 1, 2), market_name(5, 1, 1)])
    dataset = read_dataset(root, "market1501")
    assert [record.pid for record in dataset.records] == [5]
    assert "train: 1 distractor (0000) left out, they are no identity" in dataset.notes


def test_training_half_alone_is_allowed_and_noted(tmp_path: Path) -> None:
    dataset = read_dataset(market(tmp_path, train=[market_name(2, 1, 1)]), "market1501")
    assert len(dataset.records) == 1
    assert "query: no folder query, so it cannot be evaluated on" in dataset.notes


def test_counts_are_compared_with_the_published_ones(tmp_path: Path) -> None:
    notes = read_dataset(small_market(tmp_path / "few"), "market1501").notes
    assert "train: 24 images of 4 identities (Market-1501 as published: 12,936 of 751)" in notes
    # Junk and distractors count as published images, not as identities.
    assert "gallery: 8 images of 2 identities (Market-1501 as published: 19,732 of 750)" in notes


@pytest.mark.slow
def test_a_full_set_is_as_published(tmp_path: Path) -> None:
    """The counts only need names: the reader opens no image."""
    folder = tmp_path / "bounding_box_train"
    folder.mkdir()
    for number in range(12_936):
        (folder / market_name(1 + number % 751, 1 + number % 6, number)).touch()
    notes = read_dataset(tmp_path, "market1501").notes
    assert "train: 12,936 images of 751 identities, as published" in notes
    assert not [note for note in notes if note.startswith("warning")]


def test_files_left_by_systems_are_ignored_silently_and_others_are_counted(tmp_path: Path) -> None:
    root = small_market(tmp_path)
    before = read_dataset(root, "market1501")
    for name in ("Thumbs.db", ".DS_Store", "._0002_c1s1_000005_01.jpg"):
        (root / "bounding_box_train" / name).write_bytes(b"x")
    assert read_dataset(root, "market1501") == before
    (root / "query" / "readme.txt").write_text("x")
    assert read_dataset(root, "market1501").notes == (
        *before.notes[:2],
        "query: 1 other file (1 .txt) ignored",
        *before.notes[2:],
    )


def test_wrong_roots_are_explained(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere", "no such folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty", "the folder is empty")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "is a file")
    root = small_market(tmp_path / "unpacked" / "Market")
    refused(root / "query", "part of the data set", f"give the folder above it, {root}")
    refused(root.parent, "bounding_box_train", f"did you mean {root}?")
    (tmp_path / "else" / "pictures").mkdir(parents=True)
    refused(tmp_path / "else", "does not look like Market-1501", "bounding_box_train, query, bounding_box_test")


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    root = small_market(tmp_path)
    for path in (root / "query").iterdir():
        path.unlink()
    refused(root, str(root / "query"), "holds no image")


def test_a_split_of_junk_only_is_an_error(tmp_path: Path) -> None:
    refused(market(tmp_path, train=[market_name(-1, 1, 1)]), "bounding_box_train", "only junk")


def test_names_that_do_not_parse_are_listed_and_counted(tmp_path: Path) -> None:
    root = market(tmp_path, train=[market_name(2, 1, 1), "IMG_1.jpg", "IMG_2.jpg", "IMG_3.jpg", "IMG_4.jpg", "IMG_5.jpg"])
    refused(root, "bounding_box_train", "5 file names", "0002_c1s1_000451_03.jpg", "IMG_1.jpg, IMG_2.jpg, IMG_3.jpg and 2 more")


@pytest.mark.parametrize("name", ["0002_c1_f0046182.jpg", "-2_c1s1_000001_01.jpg", "9999999999_c1s1_000001_01.jpg", "c1s1_1_1.jpg"])
def test_near_misses_do_not_parse(tmp_path: Path, name: str) -> None:
    refused(market(tmp_path, train=[name]), "1 file name not", name)


def test_the_same_name_twice_is_an_error(tmp_path: Path) -> None:
    root = small_market(tmp_path)
    name = "0003_c1s1_000100_01"
    noise(root / "bounding_box_test" / f"{name}.png")
    refused(root, "more than once", f"query/{name}.jpg", f"bounding_box_test/{name}.png")


def test_people_both_trained_and_tested_are_an_error(tmp_path: Path) -> None:
    root = market(small_market(tmp_path), gallery=[market_name(7, 1, 300), market_name(9, 1, 300)])
    refused(root, "2 identities both in bounding_box_train and in the test folders (7, 9)")


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    refused(tmp_path, "'market'", "market1501", "folder", format="market")


def test_duke(tmp_path: Path) -> None:
    root = market(
        tmp_path,
        train=["0001_c2_f0046182.jpg", "0005_c8_f0000001.jpg"],
        query=["0002_c1_f0000001.jpg"],
        gallery=["0002_c3_f0000001.jpg", "0000_c3_f0000001.jpg"],
    )
    dataset = read_dataset(root, "dukemtmc")
    assert [(record.pid, record.camid, record.split) for record in dataset.records] == [
        (1, 2, "train"),
        (5, 8, "train"),
        (2, 1, "query"),
        (0, 3, "gallery"),
        (2, 3, "gallery"),
    ]
    assert "withdrawn by its authors" in dataset.notes[-1]
    refused(small_market(tmp_path / "market"), "not of DukeMTMC-reID's form 0001_c2_f0046182.jpg", format="dukemtmc")


@pytest.mark.parametrize(("folder", "published"), [("labeled", "7,368"), ("detected", "7,365")])
def test_cuhk03_np(tmp_path: Path, folder: str, published: str) -> None:
    root = market(tmp_path / folder, train=["0001_c1_1.png", "0001_c2_06.png"], query=["0003_c1_2.png"], gallery=["0003_c2_8.png"])
    dataset = read_dataset(root, "cuhk03")
    assert [(record.pid, record.camid) for record in dataset.records] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert f"as published: {published} of 767" in dataset.notes[0]
    refused(tmp_path, f"did you mean {root}?", format="cuhk03")


@pytest.mark.slow
def test_cuhk03_np_versions_are_told_apart(tmp_path: Path) -> None:
    """By their counts: detected has 7,365 training and 5,332 gallery images, labeled 7,368 and 5,328."""

    def make(folder: str, train: int, gallery: int) -> Path:
        root = tmp_path / folder
        for place, images, first, people in (
            ("bounding_box_train", train, 1, 767),
            ("query", 1400, 801, 700),
            ("bounding_box_test", gallery, 801, 700),
        ):
            (root / place).mkdir(parents=True)
            for i in range(images):
                (root / place / f"{first + i % people:04d}_c{1 + (i // people + (place == 'query')) % 2}_{i}.png").touch()
        return root

    refused(make("labeled", 7_365, 5_328), "train has the 7,365 images of detected", "mixed", format="cuhk03")
    root = make("np", 7_365, 5_332)
    refused(root, "holds the images of detected, not of labeled", format="cuhk03")
    assert "train: 7,365 images of 767 identities, as published" in read_dataset(root, "cuhk03-detected").notes
    refused(tmp_path / "labeled", "give the folder detected beside it", format="cuhk03-detected")


def test_what_a_nearly_whole_set_lacks_is_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "bounding_box_train"
    folder.mkdir()
    for number in range(12_936 - 20):
        (folder / market_name(1 + number % 751, 1 + number % 5, number)).touch()
    notes = read_dataset(tmp_path, "market1501").notes
    assert notes[0] == (
        "warning: train: 12,916 images of 751 identities (Market-1501 as published: 12,936 of 751; 20 images missing)"
    )
    assert "warning: no image of camera 6; Market-1501 has cameras 1 to 6, finish the download" in notes


def test_queries_without_a_match_are_counted(tmp_path: Path) -> None:
    root = market(small_market(tmp_path), query=[market_name(5, 1, 1), market_name(6, 1, 1)], gallery=[market_name(5, 1, 9)])
    warning = next(note for note in read_dataset(root, "market1501").notes if note.startswith("warning"))
    assert "2 queries without a gallery image of the same identity under another camera (0005_c1" in warning
    root = market(tmp_path / "one", query=[market_name(5, 1, 1)], gallery=[market_name(5, 1, 9)])
    assert "warning: no query has a gallery image" in read_dataset(root, "market1501").notes[-1]


@pytest.mark.parametrize("layout", [market1501.LAYOUT, dukemtmc.LAYOUT, cuhk03.LABELED])
def test_the_example_of_a_message_is_right(layout: FlatLayout) -> None:
    assert layout.name.match(layout.example)

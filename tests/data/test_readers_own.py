"""People's own images: names, a folder for each identity, a table, a folder for each camera."""

import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from distreid.data.readers import read_dataset
from distreid.data.records import UNKNOWN, Dataset
from tests.data.layouts import (
    MARKET_FOLDERS,
    OWN,
    OWN_CAMERAS,
    OWN_NAMES,
    market,
    market_name,
    noise,
    own_cameras,
    own_identities,
    own_names,
    own_table,
    refused,
    small_market,
)


def counts(dataset: Dataset) -> dict[tuple[int, int], int]:
    """Images of each (pid, camid)."""
    found: dict[tuple[int, int], int] = {}
    for record in dataset.records:
        found[record.pid, record.camid] = found.get((record.pid, record.camid), 0) + 1
    return found


def test_names_by_a_pattern(tmp_path: Path) -> None:
    dataset = read_dataset(own_names(tmp_path / "shop"), "names", OWN_NAMES)
    assert (dataset.name, dataset.format, counts(dataset)) == ("shop", "names", OWN)
    for record in dataset.records:
        assert record.path.name.startswith(f"p{record.pid}-cam{record.camid}-") and record.split == "train"
    assert [record.path for record in dataset.records] == sorted(record.path for record in dataset.records)
    assert dataset.notes == ("train: 31 images, 5 identities, 3 cameras",)
    without = read_dataset(tmp_path / "shop", "names", r"p(?P<pid>\d+)-")
    assert {record.camid for record in without.records} == {UNKNOWN}
    assert without.notes[-1] == "cameras unknown: a test leaves out nothing but the query itself"


def test_a_pattern_with_a_slash_reads_the_path(tmp_path: Path) -> None:
    own_identities(tmp_path)
    deep = read_dataset(tmp_path, "names", r"^(?P<pid>\d+)/cam(?P<camid>\d+)")
    assert counts(deep) == OWN == counts(read_dataset(tmp_path, "identities", OWN_CAMERAS))
    refused(tmp_path, "31 of 31 images do not match", format="names", pattern=r"^(?P<pid>\d+)")


def test_names_of_persons_are_numbered_in_their_order(tmp_path: Path) -> None:
    for name in ("zoe_1.jpg", "anna_1.jpg", "anna_2.jpg", "7_1.jpg"):
        noise(tmp_path / name)
    dataset = read_dataset(tmp_path, "names", r"^(?P<pid>[^_]+)_")
    assert [(record.path.stem, record.pid) for record in dataset.records] == [
        ("7_1", 1),
        ("anna_1", 2),
        ("anna_2", 2),
        ("zoe_1", 3),
    ]
    assert "3 identities numbered from 1 in the order of the names: 7 = 1, anna = 2, zoe = 3" in dataset.notes


def test_market_like_sets_need_no_pattern(tmp_path: Path) -> None:
    """The three folders under any of their names; junk leaves."""
    expected = read_dataset(small_market(tmp_path / "market"), "market1501")
    found = read_dataset(tmp_path / "market", "names")
    assert found.records == expected.records
    assert "2 images without an identity left out" in found.notes
    other = {"train": "train", "query": "image_query", "gallery": "gallery"}
    for split, folder in MARKET_FOLDERS.items():
        (tmp_path / "market" / folder).rename(tmp_path / "market" / other[split])
    assert [record.path.name for record in read_dataset(tmp_path / "market", "names").records] == [
        record.path.name for record in expected.records
    ]
    noise(tmp_path / "market" / "val" / market_name(90, 1, 1))
    assert "warning: not in a folder of a split, ignored: val" in read_dataset(tmp_path / "market", "names").notes


def test_a_folder_for_each_identity(tmp_path: Path) -> None:
    dataset = read_dataset(own_identities(tmp_path / "numbers"), "identities", OWN_CAMERAS)
    assert counts(dataset) == OWN
    assert all(int(record.path.parent.name) == record.pid for record in dataset.records)
    named = read_dataset(own_identities(tmp_path / "names", "person {:02d}"), "identities")
    assert sorted({record.pid for record in named.records}) == [1, 2, 3, 4, 5]
    assert {record.camid for record in named.records} == {UNKNOWN}
    assert "person 02 = 1, person 05 = 2, person 09 = 3 and 2 more" in named.notes[1]
    noise(tmp_path / "names" / "person 02" / "monday" / "deep.png")
    (tmp_path / "names" / "list.txt").touch()
    dataset = read_dataset(tmp_path / "names", "identities")
    assert next(record.pid for record in dataset.records if record.path.name == "deep.png") == 1
    assert "1 other file (1 .txt) ignored" in dataset.notes


def test_a_folder_for_each_identity_in_folders_of_splits(tmp_path: Path) -> None:
    own_identities(tmp_path / "train")
    for folder in ("query", "gallery"):
        noise(tmp_path / folder / "020" / f"cam{1 + (folder == 'query')}-0.jpg")
    dataset = read_dataset(tmp_path, "identities", OWN_CAMERAS)
    assert [(record.pid, record.camid, record.split) for record in dataset.records[-2:]] == [(20, 2, "query"), (20, 1, "gallery")]
    noise(tmp_path / "gallery" / "002" / "cam1-9.jpg")
    refused(tmp_path, "1 identity both in train and in query or gallery (2)", format="identities", pattern=OWN_CAMERAS)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"cam(?P<camid>\d+)", "lacks the group pid"),
        (r"(?P<pid>\d+", "is no regular expression"),
        (r"(?P<pid>\d+)-(?P<cam>\d+)", "has a group cam; groups are"),
        (r"p(?P<pid>\d+)-cam(?P<camid>[a-z]+)?", None),
        (r"p(?P<pid>\d+)-(?P<camid>cam\d+)", "the camera 'cam1' is not a whole number"),
        (r"p(?P<pid>\d+)-cam2", "20 of 31 images do not match the pattern 'p(?P<pid>\\d+)-cam2': p11-cam1-0.jpg, "),
        (r"p\d+(?P<pid>)", "finds no identity"),
    ],
)
def test_bad_patterns(tmp_path: Path, pattern: str, words: str | None) -> None:
    own_names(tmp_path)
    if words is None:
        assert {record.camid for record in read_dataset(tmp_path, "names", pattern).records} == {UNKNOWN}
    else:
        refused(tmp_path, words, format="names", pattern=pattern)


def test_patterns_where_none_belongs(tmp_path: Path) -> None:
    refused(own_names(tmp_path / "a"), "--format market1501 takes no pattern; names, identities, folder do", pattern=OWN_NAMES)
    for format in ("identities", "folder"):
        refused(tmp_path / "a", "use --format names", format=format, pattern=OWN_NAMES)
    refused(tmp_path / "a", "lacks the group camid", format="folder", pattern=r"\d")


def test_one_number_in_two_ways(tmp_path: Path) -> None:
    noise(own_identities(tmp_path) / "2" / "cam1-0.jpg")
    refused(tmp_path, "identity 002 and identity 2 are one number in two ways", format="identities")


def test_images_beside_the_folders(tmp_path: Path) -> None:
    noise(own_identities(tmp_path / "i") / "a.jpg")
    refused(tmp_path / "i", str(tmp_path / "i"), "1 image in no folder of an own identity: a.jpg", format="identities")
    noise(own_cameras(tmp_path / "c") / "a.jpg")
    refused(tmp_path / "c", "1 image in no folder of an own camera: a.jpg", format="cameras")


@pytest.mark.parametrize(
    ("camera", "numbers", "note"),
    [
        ("cam{}", (1, 2, 3), "cameras: cam1 = 1, cam2 = 2, cam3 = 3"),
        ("{:02d} door", (1, 2, 3), "cameras: 01 door = 1, 02 door = 2, 03 door = 3"),
        ("2024050112345{}", (1, 2, 3), "3 cameras numbered from 1 in the order of the names: 20240501123451 = 1"),
        ("{} of 3 doors", (1, 2, 3), "3 cameras numbered from 1 in the order of the names: 1 of 3 doors = 1"),
    ],
)
def test_a_folder_for_each_camera(tmp_path: Path, camera: str, numbers: tuple[int, ...], note: str) -> None:
    dataset = read_dataset(own_cameras(tmp_path, camera), "cameras")
    folders = [camera.format(number) for number in (1, 2, 3)]
    assert all(record.camid == numbers[folders.index(record.path.parent.name)] for record in dataset.records)
    assert {record.pid for record in dataset.records} == {UNKNOWN} and len(dataset.records) == 31
    assert any(line.startswith(note) for line in dataset.notes)


def test_a_plain_folder_with_cameras_by_a_pattern(tmp_path: Path) -> None:
    dataset = read_dataset(own_names(tmp_path), "folder", r"cam(?P<camid>\d+)")
    assert {(f"cam{record.camid}" in record.path.name, record.pid) for record in dataset.records} == {(True, UNKNOWN)}
    assert dataset.notes == ("train: 31 images, identities unknown, 3 cameras",)


def test_a_table(tmp_path: Path) -> None:
    table = own_table(tmp_path)
    dataset = read_dataset(table, "table")
    assert (dataset.name, dataset.root, counts(dataset)) == ("people", tmp_path, OWN)
    assert read_dataset(table, "table").records == read_dataset(tmp_path / "day", "names", OWN_NAMES).records


@pytest.mark.parametrize(
    "text",
    [
        "path;pid;camid;split;who\nday/p2-cam1-0.jpg;2;1;train;\n\nday/p5-cam1-0.jpg;5;;query;x\nday/p5-cam2-0.jpg;5;2;gallery;x",
        "split\tcamid\tpid\tpath\ntrain\t1.0\t2.0\tday/p2-cam1-0.jpg\nquery\t\t5\tday/p5-cam1-0.jpg\n"
        "gallery\t2\t5\t../{name}/day/p5-cam2-0.jpg\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_of_other_programs(tmp_path: Path, text: str, encoding: str) -> None:
    table = own_table(tmp_path)
    table.write_bytes(text.format(name=tmp_path.name).encode(encoding))
    found = [(record.path.name, record.pid, record.camid, record.split) for record in read_dataset(table, "table").records]
    assert found == [("p2-cam1-0.jpg", 2, 1, "train"), ("p5-cam1-0.jpg", 5, UNKNOWN, "query"), ("p5-cam2-0.jpg", 5, 2, "gallery")]


def test_a_parquet_table_and_images_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_names(tmp_path / "images")
    (tmp_path / "lists").mkdir()
    paths = ["../images/day/p2-cam1-0.jpg", str(tmp_path / "images" / "day" / "p5-cam1-0.jpg")]
    columns = {"path": paths, "pid": ["zoe", "anna"], "camid": pa.array([3, None], pa.int64()), "mood": [1.0, 2.0]}
    parquet.write_table(pa.table(columns), tmp_path / "lists" / "people.parquet")
    monkeypatch.chdir(tmp_path / "lists")
    dataset = read_dataset("people.parquet", "table")
    assert dataset.root == tmp_path / "images" / "day"
    assert [(record.path.name, record.pid, record.camid) for record in dataset.records] == [
        ("p2-cam1-0.jpg", 2, 3),
        ("p5-cam1-0.jpg", 1, UNKNOWN),
    ]
    assert "1 image of an unknown camera" in dataset.notes[-1]
    (tmp_path / "lists" / "people.parquet").write_bytes(b"PAR1")
    refused(Path("people.parquet"), "people.parquet: no Parquet file, or cut short", format="table")


def test_an_unlabelled_table(tmp_path: Path) -> None:
    dataset = read_dataset(own_table(tmp_path, "path,pid\nday/p2-cam1-0.jpg,-1\nday/p5-cam1-0.jpg,\n"), "table")
    assert [(record.pid, record.camid, record.split) for record in dataset.records] == [(UNKNOWN, UNKNOWN, "train")] * 2


def test_an_unlabelled_target_with_a_test_set(tmp_path: Path) -> None:
    """Among training images without an identity one that has one would be the only one to train on."""
    rows = ["day/p2-cam1-0.jpg,,train", "day/p5-cam1-0.jpg,5,query", "day/p5-cam2-0.jpg,5,gallery", "day/p9-cam2-0.jpg,-1,gallery"]
    dataset = read_dataset(own_table(tmp_path, "\n".join(["path,pid,split", *rows])), "table")
    assert [(record.pid, record.split) for record in dataset.records] == [(UNKNOWN, "train"), (5, "query"), (5, "gallery")]
    assert (
        dataset.notes[0] == "train: 1 image, identities and cameras unknown"
        and "1 image without an identity left out" in dataset.notes
    )
    dataset = read_dataset(own_table(tmp_path, "\n".join(["path,pid,split", *rows, "day/p2-cam1-1.jpg,2,train"])), "table")
    assert [(record.pid, record.split) for record in dataset.records] == [(2, "train"), (5, "query"), (5, "gallery")]


def test_queries_of_unknown_cameras_do_not_search_in_vain(tmp_path: Path) -> None:
    root = market(tmp_path, query=[market_name(5, 1, 1)], gallery=[market_name(5, 1, 9)])
    assert "warning: no query has a gallery image" in read_dataset(root, "names").notes[-1]
    assert read_dataset(root, "names", r"^(?P<pid>\d+)").notes[-1].startswith("cameras unknown")


ROW = "day/p2-cam1-0.jpg"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"path,camid\n{ROW},1", "has no column pid; it has path, camid"),
        (f"file,person\n{ROW},1", "has no column path and no pid; it has file, person"),
        ("path,pid", "has no row"),
        ("\n", "has no column path and no pid; it has none"),
        (f"path,pid\n{ROW},1\nday/a.jpg,2\nday/b.jpg,2", "2 of 3 images missing: day/a.jpg, day/b.jpg; paths are relative to"),
        (f"path,pid\n,1\n{ROW},1", "1 of 2 images missing: (empty)"),
        (f"path,pid\n{ROW},1\nday/../{ROW},2", "1 path in more than one row"),
        (f"path,pid,camid\n{ROW},1,door", "row 1: the camera 'door' is not a whole number"),
        (f"path,pid,camid\n{ROW},1,1.5", "row 1: the camera '1.5' is not a whole number"),
        (f"path,pid,split\n{ROW},1,val", "unknown splits 'val' (1); choose from train, query, gallery"),
        (f"path,pid\n{ROW},1,2\n", "1 line with another number of columns than the first line: 2"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, words: str) -> None:
    table = own_table(tmp_path, text)
    refused(table, str(table), words, format="table")


def test_what_is_no_table(tmp_path: Path) -> None:
    refused(tmp_path / "a.csv", "no such file", format="table")
    refused(own_names(tmp_path / "x"), "is no table; --format table reads .csv, .tsv, .parquet", format="table")
    table = own_table(tmp_path)
    table.write_bytes(b"path,pid\n\xff\xfe\xfa,1")
    refused(table, "is not in UTF-8", format="table")
    refused(table, "is a file", "--format table", format="names")


def test_a_file_name_that_is_no_utf8(tmp_path: Path) -> None:
    own_names(tmp_path)
    odd = os.fsencode(tmp_path / "day") + b"/p3-cam1-\xff.jpg"
    noise(tmp_path / "day" / "p3-cam1-0.jpg").rename(os.fsdecode(odd))
    assert counts(read_dataset(tmp_path, "names", OWN_NAMES)) == OWN | {(3, 1): 1}


def veri(root: Path) -> Path:
    for folder, names in {
        "image_train": ["0001_c001_00016450_0.jpg", "0001_c012_00016460_0.jpg"],
        "image_query": ["0002_c002_00030600_0.jpg"],
        "image_test": ["0002_c002_00030600_0.jpg", "0002_c020_00030601_1.jpg"],
    }.items():
        for name in names:
            noise(root / folder / name)
    return root


def test_veri776(tmp_path: Path) -> None:
    dataset = read_dataset(veri(tmp_path), "veri776")
    assert [(record.pid, record.camid, record.split) for record in dataset.records] == [
        (1, 1, "train"),
        (1, 12, "train"),
        (2, 2, "query"),
        (2, 2, "gallery"),
        (2, 20, "gallery"),
    ]
    assert dataset.notes[2] == "gallery: 2 images of 1 identity (VeRi-776 as published: 11,579 of 200)"
    refused(market(tmp_path / "m", train=[market_name(1, 1, 1)]), "VeRi-776", "image_train", format="veri776")


@pytest.mark.parametrize("style", ["{:04d}_000_{:02d}_0303morning_0015_0.jpg", "{:04d}_c{}_0015.jpg", "{:04d}_c{}s1_000015_00.jpg"])
def test_msmt17_in_markets_folders(tmp_path: Path, style: str) -> None:
    """Test identities begin at 0 again, and may even repeat a name."""
    root = market(
        tmp_path,
        train=[style.format(pid, camid) for pid in (0, 1) for camid in (1, 15)],
        query=[style.format(0, 1)],
        gallery=[style.format(0, 3), style.format(1, 15)],
    )
    dataset = read_dataset(root, "msmt17")
    assert {(record.pid, record.camid, record.split) for record in dataset.records} == {
        *((pid, camid, "train") for pid in (0, 1) for camid in (1, 15)),
        (0, 1, "query"),
        (0, 3, "gallery"),
        (1, 15, "gallery"),
    }
    assert dataset.format == "msmt17" and "train: 4 images of 2 identities (MSMT17 as published" in dataset.notes[0]

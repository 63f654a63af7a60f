"""CUHK03's original file: what is read, in what order, and what is refused. The fixture is written by h5py as MATLAB would."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from distreid.common.errors import UserError
from distreid.data import READERS, pack, select
from distreid.data.readers import read_dataset
from distreid.data.store import ImageStore
from tests.data.layouts import cuhk03_mat, refused


def test_images_people_and_test_lists(tmp_path: Path) -> None:
    mat = cuhk03_mat(tmp_path / "cuhk03_release" / "cuhk-03.mat")
    dataset = read_dataset(tmp_path, "cuhk03")  # the folder above will do, and so will the file
    assert read_dataset(mat.parent, "cuhk03").records == read_dataset(mat, "cuhk03").records == dataset.records
    found = {record.path.relative_to(mat).as_posix(): (record.pid, record.camid) for record in dataset.records}
    # Pair 1 has people 1 to 6, pair 2 goes on with 7; the first of each pair has no second view.
    expected = {
        f"labeled/{pair}_{person:03d}_{view}_{image:02d}.png": (person + 6 * (pair - 1), view)
        for pair, people in ((1, 6), (2, 4))
        for person in range(1, 1 + people)
        for view, image in ((1, 1), (1, 2), (2, 6))
        if person > 1 or view == 1
    }
    assert found == expected
    with h5py.File(mat) as file:
        lists = [file[reference][()].T.astype(int) for reference in file["testsets"][0]]
    expected_pids = tuple(tuple(sorted(6 * (pair - 1) + person for pair, person in rows.tolist())) for rows in lists)
    assert (dataset.protocol.name, dataset.protocol.test_pids) == ("single_shot", expected_pids)
    for record in dataset.records:
        assert (record.split == "test") == (record.pid in expected_pids[0])
    assert len(read_dataset(tmp_path, "cuhk03-detected").records) == 18
    assert "cuhk03-detected" in READERS


def test_packed_images_are_the_files_pixels(tmp_path: Path) -> None:
    mat = cuhk03_mat(tmp_path / "cuhk-03.mat")
    pack(tmp_path, tmp_path / "c.arrow", format="cuhk03", workers=4)
    store = ImageStore.open(tmp_path / "c.arrow")
    assert len(store) == 28
    with h5py.File(mat) as file:
        for row, path in enumerate(store.paths):
            pair, person, _, column = (int(part) for part in Path(path).stem.split("_"))
            stored = file[f"#refs#/labeled{pair - 1}_{person - 1}_{column - 1}"][()]
            assert np.array_equal(np.asarray(store.decode(row)), stored.transpose(2, 1, 0))
    assert store.protocol == read_dataset(tmp_path, "cuhk03").protocol
    other = cuhk03_mat(tmp_path / "other" / "cuhk-03.mat", testsets=2)
    assert pack(other.parent, tmp_path / "o.arrow", format="cuhk03").content_hash != store.content_hash


def test_splits_of_a_store(tmp_path: Path) -> None:
    cuhk03_mat(tmp_path / "cuhk-03.mat")
    pack(tmp_path, tmp_path / "c.arrow", format="cuhk03")
    store = ImageStore.open(tmp_path / "c.arrow")
    for split, pids in enumerate(store.protocol.test_pids):
        domain = select(store, split=split)
        assert set(domain.query.pids.tolist()) == set(pids) and domain.query.rows.tolist() == domain.gallery.rows.tolist()
        assert set(domain.train.pids.tolist()) == set(range(1, 11)) - set(pids)
        assert domain.protocol.test_pids == (pids,)
    everyone = select(store)
    assert len(everyone.train) == 0 and everyone.protocol == store.protocol
    assert set(everyone.query.pids.tolist()) == set(np.concatenate(store.protocol.test_pids).tolist())
    assert len(select(store, split=0, cameras=[1]).query) == 0, "one view cannot be looked up in another"
    with pytest.raises(UserError, match="no split 3; it has splits 0 to 2"):
        select(store, split=3)


def test_bad_files(tmp_path: Path) -> None:
    mat = tmp_path / "cuhk-03.mat"
    mat.write_bytes(b"MATLAB 5.0 MAT-file" * 100)
    refused(tmp_path, str(mat), "no MATLAB 7.3 file", "download it again", format="cuhk03")
    whole = cuhk03_mat(mat).read_bytes()
    mat.write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, str(mat), "cut short", format="cuhk03")
    mat.unlink()
    with h5py.File(mat, "w") as file:
        file["labeled"] = np.zeros(3)
    refused(tmp_path, str(mat), "not CUHK03's file", format="cuhk03")
    cuhk03_mat(mat)
    with h5py.File(mat, "r+") as file:
        file[file["testsets"][0, 1]][0, 0] = 9
    refused(tmp_path, "testset 2 names person", "of camera pair 9, who is not there", format="cuhk03")
    cuhk03_mat(mat)
    with h5py.File(mat, "r+") as file:
        rows = file[file["testsets"][0, 2]]
        rows[:, 1] = rows[:, 0]
    refused(tmp_path, "testset 3 is empty or names a person twice", format="cuhk03")


def test_a_spoiled_image_is_named(tmp_path: Path) -> None:
    mat = cuhk03_mat(tmp_path / "cuhk-03.mat")
    with h5py.File(mat, "r+") as file:
        del file["#refs#/labeled0_1_0"]
        spoiled = file.create_dataset("#refs#/labeled0_1_0", data=np.zeros((1, 4, 4), np.uint8))
        cells = file[file["labeled"][0, 0]]
        cells[0, 1] = spoiled.ref
    with pytest.raises(UserError, match=r"1 of 28 images cannot be decoded: cuhk-03\.mat/labeled/1_002_1_01\.png \(not an RGB"):
        pack(tmp_path, tmp_path / "c.arrow", format="cuhk03")


def test_without_h5py_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuhk03_mat(tmp_path / "cuhk-03.mat")
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(tmp_path, "needs h5py: pip install 'distreid[cuhk03]'", format="cuhk03")

"""Labels for other programs: tables, and folders of pictures by cluster."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from pyarrow.csv import read_csv

from distreid.actions.folders import link_or_copy
from distreid.cli import main
from distreid.data import pack
from distreid.labels import LabelSettings, make_pseudo_labels
from distreid.report.text import labels_text
from tests.commands import fails
from tests.features import draw_features

SMALL = ["--k1", "10", "--k2", "3", "--p", "0.02"]
FIGURES = ["cluster", "distance", "silhouette"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_row_for_each_feature(tmp_path: Path, suffix: str) -> None:
    features, names = draw_features("clustered", 120, 12, 1), [f"a, {number}\u00e9.jpg" for number in range(120)]
    known = {"paths": np.array(names), "camids": np.tile([3, 1], 60)}
    np.save(tmp_path / "f.npy", features)
    np.savez(tmp_path / "f.npz", features=features, **known)
    np.savez(tmp_path / "g.npz", features=features, paths=np.array(names), camids=np.full(120, -1))
    for given, columns in (("f.npy", []), ("g.npz", ["path"]), ("f.npz", ["path", "camid"])):
        for out in ("l.npz", f"l.{suffix}"):
            main(["label", str(tmp_path / given), "--out", str(tmp_path / out), *SMALL])
        made = tmp_path / f"l.{suffix}"
        table = parquet.read_table(made) if suffix == "parquet" else read_csv(made)
        assert table.column_names == ["index", *columns, *FIGURES]
        assert suffix == "parquet" or ",-1,,\n" in made.read_text(encoding="utf-8"), "empty where nothing is known"
        assert table["index"].to_pylist() == list(range(120)) and ("path" not in columns or table["path"].to_pylist() == names)
        assert "camid" not in columns or table["camid"].to_pylist() == known["camids"].tolist()
        with np.load(tmp_path / "l.npz") as arrays:
            labels, centers = arrays["labels"], arrays["centers"]
        assert table["cluster"].to_pylist() == labels.tolist() and -1 in labels and labels.max() > 0
        for row in table.to_pylist():
            if row["cluster"] < 0:
                assert row["distance"] is None and row["silhouette"] is None
            else:
                f_D = features[row["index"]] / np.linalg.norm(features[row["index"]])
                assert row["distance"] == pytest.approx(float(np.linalg.norm(f_D - centers[row["cluster"]])), rel=1e-5)
                assert -1 <= row["silhouette"] <= 1


@pytest.fixture
def crops(packed_pair: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A folder of 40 crops in folders of cameras, and features of them; two paths become one when / is _."""
    files = sorted((packed_pair[1].with_suffix("") / "bounding_box_train").iterdir())[:40]
    for at, file in enumerate(files):
        name = ["a/b_c.jpg", "a_b/c.jpg"][at] if at < 2 else f"cam{at % 2}/{at:02}.jpg"
        (tmp_path / "crops" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "crops" / name)
    paths = sorted(file.relative_to(tmp_path / "crops").as_posix() for file in (tmp_path / "crops").rglob("*.jpg"))
    features = draw_features("clustered", 40, 12, 1)
    features[1] = features[0]  # those two are in one folder
    np.savez(tmp_path / "f.npz", features=features, paths=np.array(paths))
    return tmp_path / "crops", tmp_path / "f.npz"


def clusters_of(folders: Path) -> dict[bytes, str]:
    """{content of a picture: the folder that it lies in}."""
    files = [file for file in folders.rglob("*") if file.is_file()]
    found = {file.read_bytes(): file.parent.name for file in files}
    assert len(found) == len(files) == 40
    return found


@pytest.mark.parametrize("kind", ["links", "files"])
def test_folders_to_look_through(
    crops: tuple[Path, Path], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = str(crops[0]), tmp_path / "out"
    if kind == "files":
        images = str(tmp_path / "crops.arrow")
        pack(crops[0], images, format="folder")
    out.mkdir()  # an empty folder may be there
    monkeypatch.chdir(tmp_path)
    asked = [str(crops[1]), "--out", "l.csv", "--folders", "out", "--images", os.path.relpath(images), *SMALL, "--eps", "0.6"]
    main(["label", *asked])
    assert f"pictures by cluster: out ({kind})" in capsys.readouterr().out
    with (tmp_path / "l.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = clusters_of(out)
    for row in rows:
        cluster = int(row["cluster"])
        assert found[(crops[0] / row["path"]).read_bytes()] == ("no-cluster" if cluster < 0 else f"cluster-{cluster:02}")
    assert len(Counter(found.values())) > 2
    assert {file.is_symlink() for file in out.rglob("*.jpg")} == {kind == "links"}
    assert "not an empty folder" in fails(capsys, "label", *asked)
    assert not list(tmp_path.glob(".*.tmp"))


def test_what_cannot_be_linked_is_copied(crops: tuple[Path, Path], tmp_path: Path) -> None:
    source = sorted(crops[0].rglob("*.jpg"))[0]
    assert link_or_copy(tmp_path / "new.jpg", source) == "links" and (tmp_path / "new.jpg").is_symlink()
    (tmp_path / "there.jpg").touch()  # no link can take a name that is there
    assert link_or_copy(tmp_path / "there.jpg", source) == "copies"
    assert (tmp_path / "there.jpg").read_bytes() == source.read_bytes() and not (tmp_path / "there.jpg").is_symlink()


def test_mistakes_leave_nothing(crops: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, features = map(str, crops)
    before = sorted(tmp_path.iterdir())
    out = ["--out", str(tmp_path / "l.csv"), *SMALL]
    folders = ["--folders", str(tmp_path / "out")]
    assert ".npz, .csv or .parquet" in fails(capsys, "label", features, "--out", str(tmp_path / "l.txt"))
    assert "--folders needs --images" in fails(capsys, "label", features, *out, *folders)
    assert "--images is for --folders" in fails(capsys, "label", features, *out, "--images", images)
    assert "no such file" in fails(capsys, "label", features, *out, *folders, "--images", str(tmp_path / "none.arrow"))
    assert "not an empty folder" in fails(capsys, "label", features, *out, "--folders", images, "--images", images)
    (crops[0] / "a_b" / "c.jpg").unlink()
    line = fails(capsys, "label", features, *out, *folders, "--images", images)
    assert "1 of the 40 pictures are not there: a_b/c.jpg" in line
    np.save(tmp_path / "f.npy", draw_features("clustered", 40, 12, 1))
    line = fails(capsys, "label", str(tmp_path / "f.npy"), *out, *folders, "--images", images)
    assert "has no paths" in line
    np.savez(tmp_path / "short.npz", features=draw_features("clustered", 40, 12, 1), paths=np.array(["a"]))
    line = fails(capsys, "label", str(tmp_path / "short.npz"), *out)
    assert "paths must be text, one for each of the 40 features, not <U1[1]" in line
    np.savez(tmp_path / "short.npz", features=draw_features("clustered", 40, 12, 1), camids=np.array([None] * 40))
    assert "camids must be whole numbers" in fails(capsys, "label", str(tmp_path / "short.npz"), *out)
    for name in ("f.npy", "short.npz"):
        (tmp_path / name).unlink()
    assert sorted(tmp_path.iterdir()) == before


def test_a_single_cluster_is_said_to_be_one() -> None:
    """It has no silhouette: 0.000 beside "1 is best" would be read as a bad one."""
    features = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    features[:4] = features[0] + 1e-4 * features[:4]
    one, size = labels_text(make_pseudo_labels(features, LabelSettings(eps="fixed", eps_value=1e-3))).splitlines()
    assert one == "60 features: 1 cluster, 56 outliers, eps 0.0010"
    assert size == "clusters of 4 to 4 features, median 4; no silhouette of a single one"

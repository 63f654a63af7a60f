"""The way of somebody with crops of their own, as docs/getting-started.md has it: its very commands, and what they leave."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pyarrow import parquet

from distreid.cli import main
from distreid.data import ImageStore
from distreid.labels.members import center_distances
from distreid.training import RunDirectory
from tests.commands import fails
from tests.report.document import read
from tests.report.pages import check_page
from tests.training_runs import small_settings

PAGE = (Path(__file__).parent.parent / "docs" / "getting-started.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Your own cameras")[1].split("\n## ")[0]
COMMANDS = [shlex.split(line)[1:] for line in re.findall(r"^distreid .+$", SECTION, re.MULTILINE)]
SETTINGS = yaml.safe_load(re.search(r"```yaml\n(.+?)```", SECTION, re.DOTALL)[1])  # type: ignore[index]


@pytest.fixture(scope="module")
def place(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands were run: crops of three cameras in a folder each, and a labelled source."""
    folder = tmp_path_factory.mktemp("newcomer")
    for file in sorted((packed_pair[1].with_suffix("") / "bounding_box_train").iterdir()):
        camera = folder / "crops" / f"cam{file.name.split('_c')[1][0]}"
        camera.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, camera / f"{len(list(camera.iterdir())) + 1:04}.jpg")
    shutil.copy(packed_pair[0], folder / "market.arrow")
    tiny = small_settings(packed_pair, folder)
    for group in ("pretrain", "adapt"):
        tiny[group] |= {"epochs": 1}
    tiny["adapt"]["rounds"] = 1
    ours = SETTINGS | {name: group for name, group in tiny.items() if name not in ("output", "source", "target")}
    (folder / "ours.yaml").write_text(yaml.safe_dump(ours))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for command in COMMANDS:
            main(command)
    return folder


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_page_names_every_step() -> None:
    assert [command[0] for command in COMMANDS] == ["pack", "info", "train", "export", "query"]


def test_the_sheet_and_the_report(place: Path) -> None:
    with Image.open(place / "sheet.png") as sheet:
        assert sheet.width > 500
    check_page(read(place / "runs" / "ours" / "report.html"))


def test_the_labels_are_those_of_the_run(place: Path) -> None:
    store, kept = ImageStore.open(place / "ours.arrow"), RunDirectory(place / "runs" / "ours").load_labels(1)
    rows = rows_of(place / "labels.csv")
    assert list(rows[0]) == ["index", "path", "camid", "cluster", "distance", "silhouette"]
    assert all(row["path"].startswith(f"cam{row['camid']}/") for row in rows)
    assert [row["path"] for row in rows] == store.paths.tolist()
    assert [int(row["cluster"]) for row in rows] == kept["labels"].tolist() and kept["labels"].max() > 0
    distances = center_distances(kept["features_ND"], kept["labels"], kept["centers"], normalized=True)
    for row, distance in zip(rows, distances, strict=True):
        assert (row["distance"] == row["silhouette"] == "") if np.isnan(distance) else float(row["distance"]) == distance


def test_the_folders_hold_the_pictures(place: Path) -> None:
    for row in rows_of(place / "labels.csv"):
        cluster, name = int(row["cluster"]), row["path"].replace("/", "_")
        file = place / "clusters" / ("no-cluster" if cluster < 0 else f"cluster-{cluster:02}") / name
        assert file.read_bytes() == (place / "crops" / row["path"]).read_bytes()
    assert sum(file.is_file() for file in (place / "clusters").rglob("*")) == len(rows_of(place / "labels.csv"))


def test_the_rank_list(place: Path) -> None:
    found = json.loads((place / "found.json").read_text())
    (one,) = found["queries"]
    assert len(one["ranked"]) == 20 and one["left_out"] == ["cam1/0001.jpg"]
    assert found["threshold"] is not None and found["calibration"]["clusters"] > 1
    similarity = [match["similarity"] for match in one["ranked"]]
    assert similarity == sorted(similarity, reverse=True)
    page = read(place / "found.html")
    check_page(page)
    assert len(page.all("img")) == 21


def test_parquet_and_data_that_were_moved(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(place / "ours.arrow", tmp_path / "moved.arrow")
    main(["export", "runs/ours", str(tmp_path / "l.parquet"), "--data", str(tmp_path / "moved.arrow")])
    assert "labels of round 1" in capsys.readouterr().out
    table, rows = parquet.read_table(tmp_path / "l.parquet"), rows_of(place / "labels.csv")
    assert table["path"].to_pylist() == [row["path"] for row in rows]
    assert table["silhouette"].to_pylist() == [float(row["silhouette"]) if row["silhouette"] else None for row in rows]


def test_mistakes(place: Path, packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "l.csv")
    assert ".csv or .parquet for labels" in fails(capsys, "export", "runs/ours", str(tmp_path / "l.txt"))
    assert "go with labels" in fails(capsys, "export", "runs/ours", str(tmp_path / "m.onnx"), "--folders", "x")
    assert "not an empty folder" in fails(capsys, "export", "runs/ours", out, "--folders", "clusters")
    assert "not the data that" in fails(capsys, "export", "runs/ours", out, "--data", str(packed_pair[0]))
    assert "kept in run directories" in fails(capsys, "export", "runs/ours/checkpoints/round-01.pt", out)
    assert "no finished round" in fails(capsys, "export", "crops", out)
    shutil.copytree(place / "runs" / "ours", tmp_path / "run")
    for file in (tmp_path / "run" / "labels").glob("features-*"):
        file.unlink()
    assert "labels of round 1 cannot be read" in fails(capsys, "export", str(tmp_path / "run"), out)
    shutil.rmtree(tmp_path / "run" / "labels")
    assert "holds no pseudo-labels" in fails(capsys, "export", str(tmp_path / "run"), out)
    assert not Path(out).exists()

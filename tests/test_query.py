"""`distreid query`: rank lists of one's own images, and whether two show the same person."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distreid.actions.query import query
from distreid.cli import main
from distreid.config import config_from_dict, to_dict
from distreid.methods.networks import build_model
from distreid.report.query import write_search_page
from distreid.training import save_tensors
from tests.commands import fails
from tests.report.browser import MEASURE, Browser
from tests.report.document import read
from tests.report.pages import check_page, csv_of, headline
from tests.training_runs import small_settings


@pytest.fixture(scope="module")
def places(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An untrained network and a folder of the night's crops, a few of which are also there under a second name."""
    folder = tmp_path_factory.mktemp("query")
    config = config_from_dict(small_settings(packed_pair, folder / "run"))
    torch.manual_seed(0)
    model = build_model(config, identities=12)
    content = {"format": 1, "config": to_dict(config), "identities": 12, "model": model.state_dict(), "content": []}
    save_tensors(folder / "net.pt", content)
    for at, file in enumerate(sorted((packed_pair[1].with_suffix("") / "bounding_box_train").iterdir())[::2]):
        (folder / "crops" / f"cam{at % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / "crops" / f"cam{at % 2}" / f"{at:03}.jpg")
    shutil.copy(folder / "crops" / "cam0" / "004.jpg", folder / "crops" / "copy.jpg")
    return folder / "net.pt", folder / "crops"


@pytest.fixture(autouse=True)
def cache(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """One for all tests of this file; small galleries are kept too, so that each is embedded once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(places[0].parent / "cache"))
    monkeypatch.setattr("distreid.actions.query.KEPT", 20)
    return places[0].parent / "cache" / "distreid"


def test_the_list_is_that_of_the_embedded_features(
    places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ranked by sorting what `embed` wrote; the query, and a copy of it, are left out, and nothing else."""
    network, crops = map(str, places)
    main(["embed", network, "--data", crops, "--out", str(tmp_path / "f.npz")])
    with np.load(tmp_path / "f.npz", allow_pickle=False) as saved:
        features, paths = saved["features"].astype(float), saved["paths"].tolist()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    own = paths.index("cam0/004.jpg")
    cosine = {path: float(f @ features[own]) for path, f in zip(paths, features, strict=True)}
    expected = sorted((path for path in paths if path not in ("cam0/004.jpg", "copy.jpg")), key=lambda path: -cosine[path])
    out = ["--json", str(tmp_path / "q.json")]
    image = str(places[1] / "cam0" / "004.jpg")
    capsys.readouterr()
    main(["query", network, image, "--gallery", crops, "--top", "1000", *out])
    text, found = capsys.readouterr().out, json.loads((tmp_path / "q.json").read_text())
    (one,) = found["queries"]
    assert one["query"] == image and sorted(one["left_out"]) == ["cam0/004.jpg", "copy.jpg"]
    assert [match["path"] for match in one["ranked"]] == expected and [match["rank"] for match in one["ranked"]] == [
        *range(1, len(paths) - 1)
    ]
    for match in one["ranked"]:
        assert match["similarity"] == pytest.approx(cosine[match["path"]], abs=1e-5)
        assert match["same"] is (match["similarity"] > found["threshold"]) and match["camid"] is None
    assert found["images"] == len(paths) and found["calibration"]["wrong"] <= 0.001
    assert f"{one['ranked'][0]['similarity']:.3f}" in text and expected[0] in text and "no label was used" in text


def test_a_folder_of_queries_in_itself(places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "asked").mkdir()
    for file in sorted((places[1] / "cam1").iterdir())[:4]:
        shutil.copy(file, tmp_path / "asked")
    out = ["--json", str(tmp_path / "q.json"), "--html", str(tmp_path / "q.html")]
    main(["query", str(places[0]), str(tmp_path / "asked"), "--gallery", str(tmp_path / "asked"), "--top", "2", *out])
    found = json.loads((tmp_path / "q.json").read_text())
    assert [len(one["ranked"]) for one in found["queries"]] == [2] * 4
    for one in found["queries"]:
        assert one["left_out"] == [Path(one["query"]).name] and Path(one["query"]).name not in str(one["ranked"])
    assert found["calibration"]["images"] > 20 and "the run's target, night" in found["told"]
    text = capsys.readouterr().out
    assert all(one["query"] in text for one in found["queries"]) and "above" in text
    page = read(tmp_path / "q.html")
    check_page(page)
    assert len(page.all("figure")) == 4 and len(page.all("img")) == 12


def test_two_images(places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, first, copy = str(places[0]), str(places[1] / "cam0" / "004.jpg"), str(places[1] / "copy.jpg")
    out = ["--json", str(tmp_path / "q.json"), "--html", str(tmp_path / "q.html")]
    main(["query", network, first, copy, *out])
    found = json.loads((tmp_path / "q.json").read_text())
    (match,) = found["queries"][0]["ranked"]
    assert match["similarity"] == pytest.approx(1) and match["same"] and match["path"] == copy
    assert found["gallery"] is None and found["calibration"]["clusters"] > 1
    assert "similarity 1.000: taken for the same person" in capsys.readouterr().out
    check_page(read(tmp_path / "q.html"))
    assert headline(read(tmp_path / "q.html")) == "Similarity 1.000: taken for the same person."
    other = str(places[1] / "cam1" / "005.jpg")
    main(["query", network, first, other, "--threshold", "1", *out])
    assert ": not taken for the same person" in capsys.readouterr().out
    found = json.loads((tmp_path / "q.json").read_text())
    assert found["threshold"] == 1 and found["calibration"] is None and not found["queries"][0]["ranked"][0]["same"]


def test_packed_galleries_tell_their_cameras(
    places: tuple[Path, Path], packed_pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(places[1] / "cam0" / "004.jpg")
    main(["query", str(places[0]), image, "--gallery", str(packed_pair[1]), "--top", "3", "--json", str(tmp_path / "q.json")])
    (one,) = json.loads((tmp_path / "q.json").read_text())["queries"]
    assert len(one["left_out"]) == 1 and all(match["camid"] in (1, 2, 3) for match in one["ranked"])


def test_a_large_gallery_is_embedded_once(places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "distreid"
    asked = places[0], str(places[1] / "cam0" / "004.jpg")
    first = query(*asked, gallery=str(places[1]))
    kept = sorted((cache / "features").iterdir())
    assert len(kept) == 3, "features of the gallery, features and clusters of the target"
    for file in kept:
        array = np.load(file)
        if array.ndim == 2:
            np.save(file, np.roll(array, 1, axis=0))  # so that what is read shows
        else:
            file.write_bytes(b"")  # damaged
            assert array.dtype == np.int64
    second = query(*asked, gallery=str(places[1]))
    paths = [[shown.path for shown, _ in found.lists[0].matches] for found in (first, second)]
    assert paths[0] != paths[1]
    assert len(list((cache / "features").iterdir())) == 3
    query(*asked, gallery=str(places[1]), flip=True)
    assert len(list((cache / "features").iterdir())) == 6, "other features, other files"


def test_what_was_not_asked_for_longest_goes_first(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There is room for two of three galleries' features."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = tmp_path / "distreid" / "features"
    image = str(places[1] / "copy.jpg")
    galleries = [tmp_path / name for name in "abc"]
    for at, folder in enumerate(galleries):
        shutil.copytree(places[1] / "cam0", folder)
        Image.new("RGB", (20, 40), (at, 0, 0)).save(folder / "own.png")

    def files(place: int) -> set[Path]:
        before = set(kept.iterdir()) if kept.exists() else set()
        query(places[0], image, gallery=str(galleries[place]), threshold=0.5)
        return set(kept.iterdir()) - before

    (first,) = files(0)
    monkeypatch.setattr("distreid.actions.query.KEPT_BYTES", 2 * first.stat().st_size)
    (second,) = files(1)
    assert not files(0), "asked for again"
    (third,) = files(2)
    assert set(kept.iterdir()) == {first, third} and not second.exists()
    monkeypatch.setattr("distreid.actions.query.KEPT_BYTES", 10)
    assert not files(1) and set(kept.iterdir()) == {first, third}, "what is larger than the limit is not kept at all"


def test_mistakes(places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, crops = map(str, places)
    image = str(places[1] / "copy.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "notes.txt").write_text("no image")
    Image.new("RGB", (20, 40)).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    gallery = ["--gallery", crops]
    assert "--top 0: must be 1 or more" in fails(capsys, "query", network, image, *gallery, "--top", "0")
    assert "a cosine similarity lies between" in fails(capsys, "query", network, image, *gallery, "--threshold", "70")
    assert "the folder is empty" in fails(capsys, "query", network, image, "--gallery", str(tmp_path / "empty"))
    assert "no image in it" in fails(capsys, "query", network, str(tmp_path / "empty"), *gallery)
    assert "no such image or folder" in fails(capsys, "query", network, str(tmp_path / "none.jpg"), *gallery)
    assert "no image by its ending" in fails(capsys, "query", network, str(tmp_path / "notes.txt"), *gallery)
    for name in ("text.jpg", "half.png"):
        line = fails(capsys, "query", network, str(tmp_path / name), *gallery, "--json", str(tmp_path / "q.json"))
        assert f"{name}: not an image, or a damaged one" in line and not (tmp_path / "q.json").exists()
    assert "no such checkpoint" in fails(capsys, "query", str(tmp_path / "none.pt"), image, *gallery)
    assert "no finished round" in fails(capsys, "query", str(tmp_path / "empty"), image, *gallery)
    assert "name two image files" in fails(capsys, "query", network, image, crops)


def test_without_a_threshold(places: tuple[Path, Path], packed_pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The run's target is gone."""
    saved = torch.load(places[0], weights_only=True)
    saved["config"]["target"]["data"] = str(tmp_path / "gone.arrow")
    torch.save(saved, tmp_path / "c.pt")
    found = query(tmp_path / "c.pt", str(places[1] / "copy.jpg"), gallery=str(places[1] / "cam1"), top=5, pictures=True)
    assert found.threshold is None and "--threshold gives one" in found.told and "gone.arrow: no such file" in found.told
    assert {match["same"] for match in found.as_dict()["queries"][0]["ranked"]} == {None}
    write_search_page(tmp_path / "q.html", found)
    page = read(tmp_path / "q.html")
    check_page(page)
    assert "no threshold" in headline(page) and "hit" not in {node.attributes.get("class") for node in page.all("li")}


def test_the_page_in_a_browser(browser: Browser, places: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "q.html"
    found = query(places[0], str(places[1] / "cam0" / "004.jpg"), gallery=str(places[1]), pictures=True)
    write_search_page(page, found)
    (figure,) = read(page).all("figure")
    assert len(csv_of(figure)) == 21 and len(figure.all("img")) == 21
    above = sum(similarity > (found.threshold or 0) for _, similarity in found.lists[0].matches)
    assert [node.attributes.get("class") for node in figure.all("li")].count("hit") == above
    for width in (1280, 390):
        for dark in (False, True):
            browser.open(page, width, dark=dark)
            measured = browser.evaluate(MEASURE)
            assert measured["images"] == 21 and measured["broken"] == 0
            assert measured["scroll"] <= measured["window"] and not measured["past"], measured["past"]
            assert not browser.errors and browser.requests == [page.resolve().as_uri()]

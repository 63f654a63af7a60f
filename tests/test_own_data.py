"""People's own images from their folders to a run: labelled sources, cameras by folders, tests without cameras."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distreid.actions.train import packed, with_absolute_paths
from distreid.cli import main
from distreid.common.errors import UserError
from distreid.config import Config, DomainConfig, config_from_dict, load_config
from distreid.data import ImageStore
from distreid.data.readers import read_dataset
from distreid.report.text import result_table
from distreid.training.domains import open_domain
from tests.commands import fails
from tests.data.layouts import OWN_CAMERAS, OWN_NAMES, own_identities, own_names, own_table, prid
from tests.training_runs import run, small_settings

Pair = tuple[Path, Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def rearranged(packed_pair: Pair, root: Path) -> Path:
    """The drawn networks: day's people as a folder for each identity, with the camera in the names, and night's as a folder for
    each camera and, with its test set, as a table."""
    drawn_day, drawn_night = (read_dataset(file.with_suffix(""), "market1501") for file in packed_pair)
    for record in drawn_day.records:
        if record.split == "train":
            _copy(record.path, root / "people" / f"person {record.pid}" / f"k{record.camid} {record.path.name}")
    with (root / "night.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "pid", "split"])
        for record in drawn_night.records:
            _copy(record.path, root / "night" / f"cam{record.camid}" / record.path.name)
            rows.writerow([f"night/cam{record.camid}/{record.path.name}", record.pid, record.split])
    return root


def _copy(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, place)


def configured(folder: Path, pair: Pair, *overrides: str, **domains: dict[str, Any]) -> Config:
    """As `distreid train` has it, folders and tables packed."""
    settings = small_settings(pair, folder / "run") | domains
    settings["pretrain"]["epochs"], settings["adapt"]["epochs"] = 0, 1
    return with_absolute_paths(config_from_dict(settings, list(overrides)))


def test_a_run_on_ones_own_data(packed_pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A source in folders of identities with a drawn test set; a target listed in a table that knows no cameras."""
    root = rearranged(packed_pair, tmp_path)
    source = {"data": str(root / "people"), "format": "identities", "pattern": r"^k(?P<camid>\d+) "}
    source |= {"holdout": 4, "holdout_seed": 1}
    target = {"data": str(root / "night.csv"), "format": "table"}
    config = configured(tmp_path, packed_pair, "adapt.rounds=1", source=source, target=target)
    assert str(open_domain(config.target, labelled=False)).endswith("gallery, cameras unknown")
    result = run(config)
    assert "cameras" not in result["in_domain"] and result["in_domain"]["queries_without_positive"] == 0
    measured = (result["direct_transfer"], result["rounds"][0], result["final"])
    assert [metrics["cameras"] for metrics in measured] == [False] * 3
    assert "single query, without cameras" in result_table(result)

    place = str(tmp_path / "run")
    main(["evaluate", place])
    assert "cameras unknown: nothing but the query itself is left out" in capsys.readouterr().out
    known = ["evaluate", place, "--data", str(packed_pair[1]), "--json"]
    main(known)
    between = json.loads(capsys.readouterr().out)
    main([*known, "--no-cameras"])
    whatever = json.loads(capsys.readouterr().out)
    assert "cameras" not in between and whatever["cameras"] is False and whatever["mAP"] > between["mAP"]
    assert whatever["mAP"] == pytest.approx(result["final"]["mAP"], abs=1e-3)
    assert "is a file" in fails(capsys, "evaluate", place, "--data", str(root / "night.csv"), "--format", "names")


def test_cameras_by_folders_serve_camera_aware_labels(packed_pair: Pair, tmp_path: Path) -> None:
    root = rearranged(packed_pair, tmp_path)
    target = {"data": str(root / "night"), "format": "cameras"}
    config = configured(tmp_path, packed_pair, "adapt.rounds=1", "labels.camera_aware=true", target=target)
    camids = ImageStore.open(config.target.data).camids
    result = run(config)
    assert set(camids) == {1, 2, 3} and result["rounds"][0]["clusters"] > 1 and result["final"] is None
    given = np.load(tmp_path / "run" / "labels" / "round-01.npz")
    assert len(given["labels"]) == len(camids)


def test_a_test_set_of_one_camera_if_asked_for(packed_pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = {"data": str(packed_pair[1]), "cameras": [1]}
    config = configured(tmp_path, packed_pair, "adapt.rounds=0", target=target)
    assert "direct_transfer" not in run(config)
    assert "under another camera" in fails(capsys, "evaluate", str(tmp_path / "run"))
    main(["evaluate", str(tmp_path / "run"), "--no-cameras", "--json"])
    found = json.loads(capsys.readouterr().out)
    test = open_domain(replace(config.target, no_cameras=True), labelled=False).test
    assert found["cameras"] is False and test is not None and found["queries"] == test.queries > 0 and not test.cameras


def test_pack_and_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_identities(tmp_path / "people")
    out = str(tmp_path / "p.arrow")
    how = ["--format", "identities", "--pattern", OWN_CAMERAS]
    main(["pack", str(tmp_path / "people"), out, *how, "--holdout", "2", "--seed", "5"])
    told = capsys.readouterr().out
    assert "2 identities of 5 held out by seed 5" in told and "camera 3" in told
    main(["info", out])
    assert capsys.readouterr().out == told
    main(["info", str(tmp_path / "people"), *how])
    assert "train: 31 images, 5 identities, 3 cameras" in capsys.readouterr().out
    line = fails(capsys, "pack", str(tmp_path / "people"), out, "--format", "identities", "--holdout", "9")
    assert "holdout 9 must be from 1 to 4" in line
    own_names(tmp_path / "names")
    (tmp_path / "names" / "day" / "p5-cam1-0.jpg").write_bytes(b"")
    line = fails(capsys, "pack", str(tmp_path / "names"), out, "--format", "names", "--pattern", OWN_NAMES)
    again = f"distreid pack {tmp_path / 'names'} OUT.arrow --format names --pattern '{OWN_NAMES}' --skip-bad"
    assert "1 of 31 images cannot be decoded: day/p5-cam1-0.jpg (empty file)" in line and line.endswith(again)


def test_a_cached_table_notices_every_change(tmp_path: Path) -> None:
    table = own_table(tmp_path)
    domain = DomainConfig(str(table), "table")
    first = packed(domain).data
    assert packed(domain).data == first
    (tmp_path / "day" / "in no row.jpg").touch()
    assert packed(domain).data == first
    shutil.copy(tmp_path / "day" / "p5-cam1-0.jpg", tmp_path / "day" / "p2-cam1-0.jpg")
    second = packed(domain).data
    table.write_text(table.read_text().replace("p2-cam1-0.jpg,2", "p2-cam1-0.jpg,5"))
    assert len({first, second, packed(domain).data}) == 3
    patterns = [DomainConfig(str(tmp_path / "day"), "names", pattern) for pattern in (OWN_NAMES, r"p(?P<pid>\d+)-")]
    assert len({packed(one).data for one in patterns if (tmp_path / "day" / "in no row.jpg").unlink(missing_ok=True) is None}) == 2


def test_score_without_camids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(20), 3)
    features = rng.standard_normal((20, 8))[pids] + rng.standard_normal((60, 8))
    file, known = str(tmp_path / "all.npz"), str(tmp_path / "known.npz")
    np.savez(file, features=features, pids=pids)
    np.savez(known, features=features, pids=pids, camids=np.arange(60))  # a camera for each: the query itself is left out
    assert "lacks camids; it holds features, pids; --no-cameras does without them" in fails(capsys, "score", file, file)
    main(["score", file, file, "--no-cameras"])
    told = capsys.readouterr().out
    assert "single query, without cameras: 60 queries against 60 gallery images" in told
    assert "cameras unknown: nothing but the query itself is left out" in told
    found = []
    for arguments in ([file, file, "--no-cameras"], [known, known, "--no-cameras"], [known, known]):
        main(["score", *arguments, "--json"])
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] == found[2] | {"cameras": False} and found[0]["mAP"] < 1
    line = fails(capsys, "score", file, file, "--no-cameras", "--protocol", "single_shot")
    assert "the protocol single_shot goes by cameras; leave --no-cameras out" in line


def test_several_sources_at_once(packed_pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A packed file and a folder of the same people: they count twice, and are tested together."""
    source = {"data": str(packed_pair[0]), "also": [str(packed_pair[0].with_suffix(""))]}
    config = configured(tmp_path, packed_pair, "adapt.rounds=0", source=source)
    one, both = (open_domain(domain, labelled=True) for domain in (DomainConfig(str(packed_pair[0])), config.source))
    assert (both.identities, len(both.train)) == (2 * one.identities, 2 * len(one.train))
    assert set(both.camids) == {1, 2, 3, 4, 5, 6} and both.given == " + ".join([source["data"], *source["also"]])
    assert one.test is not None and both.test is not None and both.test.queries == 2 * one.test.queries
    again = configured(tmp_path, packed_pair, source=source)
    assert again.source.data == config.source.data and again.source.also is None
    file = tmp_path / "c.yaml"
    file.write_text(f"output: {tmp_path}/run\nsource: {{data: a, also: [b]}}\ntarget: {{data: c}}\n")
    line = fails(capsys, "train", str(file), "source.cameras=[1]")
    assert "source.also goes without source.cameras: cameras and identities of several sets are numbered anew" in line


@pytest.mark.slow
def test_a_list_of_sources_read_and_selected_each_in_its_own_way(
    packed_pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A packed file's first camera, and a folder of identities with a test set held out: a whole run by the command."""
    people = rearranged(packed_pair, tmp_path) / "people"
    own = {"data": str(people), "format": "identities", "pattern": r"^k(?P<camid>\d+) ", "holdout": 3}
    settings = small_settings(packed_pair, tmp_path / "run") | {"source": ["gone.arrow", own]}
    settings["source"][0] = {"data": str(packed_pair[1]), "cameras": [1]}
    settings["pretrain"]["epochs"], settings["adapt"] = 1, settings["adapt"] | {"rounds": 1, "epochs": 1}
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(settings))
    main(["train", str(file), f"source.0.data={packed_pair[0]}", "source.balance=true", "evaluate.source=true"])
    kept = load_config(tmp_path / "run" / "config.yaml")
    store, source = ImageStore.open(kept.source.data), open_domain(kept.source, labelled=True)
    one = open_domain(DomainConfig(str(packed_pair[0]), cameras=[1]), labelled=True)
    other = open_domain(packed(DomainConfig(**own)), labelled=True)
    assert kept.source.sets is None and kept.source.balance and source.given == f"{packed_pair[0]} + {people}"
    assert (source.identities, len(source.train)) == (one.identities + other.identities, len(one.train) + len(other.train))
    day = ImageStore.open(packed_pair[0])
    asked = int(((day.splits == "query") & (day.camids == 1)).sum())
    assert source.test is not None and other.test is not None and source.test.queries == other.test.queries + asked
    assert len(set(source.camids)) == 1 + len(set(other.camids))
    assert source.sets is not None and np.bincount(source.sets).tolist() == [len(one.train), len(other.train)]
    again = store.path
    capsys.readouterr()
    assert "--resume" in fails(capsys, "train", str(file), f"source.0.data={packed_pair[0]}", "source.balance=true")
    main(["evaluate", str(tmp_path / "run"), "--json"])
    assert json.loads(capsys.readouterr().out)["queries"] > 0
    same = with_absolute_paths(load_config(file, [f"source.0.data={packed_pair[0]}"]))
    changed = with_absolute_paths(load_config(file, [f"source.0.data={packed_pair[0]}", "source.1.holdout=2"]))
    assert same.source.data == str(again) != changed.source.data


def test_one_random_split_of_a_set_among_several(packed_pair: Pair, tmp_path: Path) -> None:
    single = prid(tmp_path / "prid")
    two = {"data": str(single), "format": "prid2011", "cameras": [1]}
    with pytest.raises(UserError, match=r"prid: has random splits of its own; to be joined with other sets it needs 'split'"):
        configured(tmp_path, packed_pair, source={"sets": [{"data": str(packed_pair[0])}, two]})
    config = configured(tmp_path, packed_pair, source={"sets": [two | {"split": 3}, two | {"split": 4}]})
    source = open_domain(config.source, labelled=True)
    alone = [open_domain(packed(DomainConfig(**two, split=split)), labelled=True) for split in (3, 4)]
    assert source.identities == sum(one.identities for one in alone) and source.test is None


def test_a_set_without_identities_among_several_is_named(packed_pair: Pair, tmp_path: Path) -> None:
    night = packed_pair[1].with_suffix("")
    sets = [{"data": str(packed_pair[0])}, {"data": str(night), "format": "folder"}]
    config = configured(tmp_path, packed_pair, source={"sets": sets})
    with pytest.raises(UserError, match=r"a source needs identities, and its set 2-night has none"):
        open_domain(config.source, labelled=True)

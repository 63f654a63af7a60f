"""From a data set's folder to its own protocol's figures, by the commands that users type."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pyarrow import parquet

from distreid.cli import main
from distreid.config import DomainConfig
from distreid.data import ImageStore
from distreid.evaluation import Features, measure
from distreid.training.domains import open_domain
from tests.commands import fails
from tests.data.layouts import cuhk03_mat, prid
from tests.training_runs import small_settings

Show = Callable[..., Any]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    """Runs a command; what it printed, read as JSON where it was asked for."""

    def run(*arguments: str | Path) -> Any:
        capsys.readouterr()
        main([str(argument) for argument in arguments])
        out = capsys.readouterr().out
        return json.loads(out) if "--json" in arguments else out

    return run


def untrained(folder: Path, pair: tuple[Path, Path], **domains: dict[str, Any]) -> Path:
    """A run of no epochs and no rounds: a source model with the weights that it began with."""
    folder.mkdir(exist_ok=True)
    settings = small_settings(pair, folder / "run") | domains
    settings["adapt"]["rounds"] = settings["pretrain"]["epochs"] = 0
    (folder / "c.yaml").write_text(yaml.safe_dump(settings))
    main(["train", str(folder / "c.yaml")])
    return folder / "run"


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    """PRID2011's layout (12 shared people, 3 and 5 more) and CUHK03's file (50 people, 3 lists of 16), packed."""
    prid(tmp_path / "prid_2011", shared=12, only_a=3, only_b=5)
    main(["pack", str(tmp_path / "prid_2011"), str(tmp_path / "p.arrow"), "--format", "prid2011"])
    cuhk03_mat(tmp_path / "cuhk03_release" / "cuhk-03.mat", people=(30, 20), testsets=3, tested=16)
    main(["pack", str(tmp_path / "cuhk03_release"), str(tmp_path / "c.arrow"), "--format", "cuhk03"])
    return tmp_path / "p.arrow", tmp_path / "c.arrow"


@pytest.mark.slow
def test_a_model_is_tested_by_the_sets_own_protocol(
    packed_pair: tuple[Path, Path], sets: tuple[Path, Path], tmp_path: Path, show: Show
) -> None:
    run, (two_cameras, classic) = untrained(tmp_path, packed_pair), sets
    table = tmp_path / "q.parquet"
    found = show("evaluate", run, "--data", two_cameras, "--flip", "--per-query", table, "--json")
    assert (found["protocol"], found["splits"], found["queries"], found["gallery"]) == ("cross_camera", 10, 6, 11)
    assert (found["reverse"]["queries"], found["reverse"]["gallery"]) == (6, 9)
    assert found["flip"] and not found["reranked"] and not found["camera_normalized"]
    lines = parquet.read_table(table).to_pydict()
    forth = np.array([name.startswith("single_shot/cam_a/") for name in lines["path"]])
    for metrics, own in ((found, forth), (found["reverse"], ~forth)):
        assert own.sum() == 60
        assert np.array(lines["ap_hits"])[own].mean() == pytest.approx(metrics["mAP_hits"], abs=1e-12)
        assert (np.array(lines["first_hit"])[own] == 1).mean() == pytest.approx(metrics["rank1"], abs=1e-12)

    found = show("evaluate", run, "--data", classic, "--json")
    assert (found["protocol"], found["splits"]) == ("single_shot", 3)
    assert 14 <= found["gallery"] <= 16, "16 people a split, some of whom the second camera did not see"
    text = show("evaluate", run, "--data", classic, "--rerank")
    assert "single gallery shot" in text and "Rank-20" in text and "over 3 splits" in text and "re-ranking" in text
    text = show("evaluate", run, "--data", two_cameras)
    assert "the other direction" in text and "6 queries against 9 gallery images" in text
    found = show("evaluate", run, "--camera-normalize", "--json")
    assert found["camera_normalized"] and found["mAP"] != show("evaluate", run, "--json")["mAP"]
    text = show("evaluate", run, "--rerank", "--per-query", table)
    assert "precision at hits" in text and "official trapezoid" in text and "re-ranking" in text
    assert parquet.read_table(table)["path"][0].as_py().startswith("query/")


@pytest.mark.slow
def test_people_whom_a_model_was_trained_on_are_not_tested(
    packed_pair: tuple[Path, Path], sets: tuple[Path, Path], tmp_path: Path, show: Show, capsys: pytest.CaptureFixture[str]
) -> None:
    two_cameras, classic = sets
    run = untrained(tmp_path, packed_pair, source={"data": str(classic), "split": 1}, target={"data": str(two_cameras)})
    result = json.loads((run / "result.json").read_text())
    assert (result["in_domain"]["protocol"], result["in_domain"]["splits"]) == ("single_shot", 1)
    assert (result["direct_transfer"]["protocol"], result["direct_transfer"]["gallery"]) == ("cross_camera", 11)
    one = untrained(tmp_path / "one", packed_pair, target={"data": str(two_cameras), "cameras": [1]})
    styled = json.loads((one / "result.json").read_text())["direct_transfer"]
    assert styled["gallery"] == 11 and styled["reverse"]["gallery"] == 9, "one camera to train on, both to be tested"
    assert len(open_domain(DomainConfig(str(two_cameras), cameras=[1]), labelled=False).train) == 6
    found = show("evaluate", run, "--data", classic, "--per-query", tmp_path / "q.parquet", "--json")
    assert found["splits"] == 1
    tested = set(parquet.read_table(tmp_path / "q.parquet")["pid"].to_pylist())
    assert tested == set(ImageStore.open(classic).protocol.test_pids[1])
    assert show("evaluate", run, "--json")["rank1"] == result["direct_transfer"]["rank1"], "the target's first split"
    config = tmp_path / "c.yaml"
    assert "has splits 0 to 2" in fails(capsys, "train", str(config), "source.split=3", f"output={tmp_path}/other")
    fixed = fails(capsys, "train", str(config), f"source.data={packed_pair[0]}", f"output={tmp_path}/other")
    assert "its test set is fixed" in fixed and "split" in fixed


def test_score_by_the_protocol_that_the_features_carry(tmp_path: Path, show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, 8))
    sides = [Features(centres + rng.standard_normal((60, 8)), np.arange(60), np.full(60, camera)) for camera in (1, 2)]
    lists = [list(range(20)), list(range(20, 40))]
    for name, side in zip(("q", "g"), sides, strict=True):
        arrays = {"features": side.features, "pids": side.pids, "camids": side.camids}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        np.savez(tmp_path / f"{name}2.npz", **arrays, protocol="cross_camera", test_pids=np.array(lists))
    query, gallery = tmp_path / "q.npz", tmp_path / "g.npz"
    found = show("score", tmp_path / "q2.npz", gallery, "--json")
    expected = measure(*sides, "cross_camera", lists).metrics
    assert found == expected | {"reranked": False, "camera_normalized": False}
    assert show("score", tmp_path / "q2.npz", gallery, "--protocol", "single_query", "--json")["queries"] == 60
    found = show("score", query, gallery, "--json", "--per-query", tmp_path / "q.parquet")
    assert found["ap"] == "hits" and found["mAP"] == found["mAP_hits"] > found["mAP_trapezoid"]
    assert parquet.read_table(tmp_path / "q.parquet")["pid"].to_pylist() == list(range(60))
    assert show("score", query, gallery, "--rerank", "--json")["mAP"] != found["mAP"]
    assert "share 60 identities, but a split needs 100" in fails(
        capsys, "score", str(query), str(gallery), "--protocol", "cross_camera"
    )

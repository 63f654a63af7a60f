"""The pictures of a real small run, against slow and obvious recomputation, and its page in a real browser."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from distreid.actions.train import report
from distreid.common.errors import UserError
from distreid.config import Config, config_from_dict
from distreid.data import ImageStore, pack, select
from distreid.methods.clusters import purities, silhouettes
from distreid.methods.exhibits import Pictures
from distreid.methods.pictures import sample, take_pictures
from distreid.methods.thumbnails import subsample
from distreid.report import write_report
from distreid.training import RunDirectory
from distreid.training.domains import TestSet, open_domain
from tests.report.browser import MEASURE, Browser
from tests.report.document import read
from tests.report.pages import check_page, titles
from tests.training_runs import run as train
from tests.training_runs import small_settings


@pytest.fixture(scope="module")
def config(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run of one round, finished."""
    settings = small_settings(packed_pair, tmp_path_factory.mktemp("pictures") / "a 'run' & <more>")
    config = config_from_dict(settings, ["adapt.rounds=1", "adapt.epochs=1"])
    train(config)
    return config


@pytest.fixture(scope="module")
def pictures(config: Config) -> Pictures:
    return take_pictures(Path(config.output))


@pytest.mark.slow
def test_rank_lists_are_those_of_the_evaluation(config: Config, pictures: Pictures) -> None:
    """Every query ranked by sorting Python lists."""
    from distreid.methods.networks import load_model
    from distreid.methods.pictures import FeatureExtractor

    test = open_domain(config.target, labelled=False).test
    assert test is not None
    store = test.images.store
    assert isinstance(store, ImageStore)
    features = FeatureExtractor(load_model(Path(config.output))[0], config).features(test.images).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rankings, precisions = {}, {}
    for q in range(test.queries):
        counted = [
            g
            for g in range(test.queries, len(test.images))
            if test.pids[g] != -1 and not (test.pids[g] == test.pids[q] and test.camids[g] == test.camids[q])
        ]
        counted.sort(key=lambda g: -float(features[g] @ features[q]))
        hits = [rank for rank, g in enumerate(counted, 1) if test.pids[g] == test.pids[q]]
        path = str(store.paths[test.images.rows[q]])
        rankings[path] = [str(store.paths[test.images.rows[g]]) for g in counted]
        precisions[path] = sum(found / rank for found, rank in enumerate(hits, 1)) / len(hits)
    assert Counter(one.kind for one in pictures.rank_lists) == {"best": 3, "median": 3, "worst": 3}
    assert pictures.ranked_among == (len(test.images) - test.queries,) * 2
    for one in pictures.rank_lists:
        assert [crop.path for crop, _ in one.ranked] == rankings[one.query.path][:10]
        assert one.ap == pytest.approx(precisions[one.query.path])
    aps = {kind: [one.ap for one in pictures.rank_lists if one.kind == kind] for kind in ("best", "median", "worst")}
    assert max(aps["best"]) == pytest.approx(max(precisions.values()))
    assert min(aps["worst"]) == pytest.approx(min(precisions.values()))
    assert aps["median"][0] == pytest.approx(np.median(list(precisions.values())), abs=0.05)
    for kind in aps:
        people = [one.query.pid for one in pictures.rank_lists if one.kind == kind]
        assert len(set(people)) == len(people)


def test_attention_splits_the_activation(config: Config, pictures: Pictures) -> None:
    assert Counter(one.domain for one in pictures.attended) == {"source": 4, "target": 4}
    for one in pictures.attended:
        assert one.specific_hw is not None and one.shared_hw.shape == one.specific_hw.shape
        assert one.shared_hw.min() > 0 and one.shared_hw.max() < 1
        np.testing.assert_allclose(one.shared_hw + one.specific_hw, 1, atol=1e-5)


def test_the_embedding_shows_the_same_people_before_and_after(config: Config, pictures: Pictures) -> None:
    before, after = pictures.clouds
    assert (before.model, after.model) == ("direct transfer", "round 1")
    assert np.isfinite(after.xy_N2).all() and not np.array_equal(before.xy_N2, after.xy_N2)
    assert np.array_equal(before.groups_N, after.groups_N) and len(np.unique(after.groups_N)) <= 12
    assert len(np.unique(after.camids_N)) > 1


def test_clusters_are_those_of_the_run(config: Config, pictures: Pictures) -> None:
    labels = RunDirectory(config.output).round_labels(1)["labels"]
    store = ImageStore.open(config.target.data)
    train_rows = select(store).train.rows
    assert pictures.known and len(pictures.clusters) == labels.max() + 1
    paths = {str(store.paths[row]): at for at, row in enumerate(train_rows)}
    for one in pictures.clusters:
        people = Counter(store.pids[train_rows[labels == one.number]].tolist())
        assert one.size == sum(people.values()) and one.identities == len(people)
        assert one.score == pytest.approx(max(people.values()) / one.size)
        assert people[one.pid] == max(people.values())
        assert all(
            labels[paths[crop.path]] == one.number and crop.pid == store.pids[train_rows[paths[crop.path]]] for crop in one.crops
        )
    scores = [one.score for one in pictures.clusters]
    assert scores == sorted(scores, reverse=True)
    assert pictures.clusters[0].crops and pictures.clusters[-1].crops


def test_silhouettes_against_loops() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 5)) * rng.uniform(0.5, 2, (40, 1))
    labels = np.concatenate([np.repeat([0, 1, 2], 12), [-1] * 4])
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    centers = np.stack([unit[labels == k].mean(0) for k in range(3)])
    expected = []
    for k in range(3):
        values = []
        for f in unit[labels == k]:
            distances = [float(np.linalg.norm(f - c / np.linalg.norm(c))) for c in centers]
            a, b = distances[k], min(d for other, d in enumerate(distances) if other != k)
            values.append((b - a) / max(a, b))
        expected.append(sum(values) / len(values))
    np.testing.assert_allclose(silhouettes(labels, features, centers, block=7), expected)


def test_purity_of_a_tie_is_told_by_the_smaller_identity() -> None:
    (one,) = purities(np.array([0, 0, 0, 0, -1]), np.array([9, 4, 9, 4, 4]))
    assert (one.size, one.score, one.identities, one.pid) == (4, 0.5, 2, 4)


def test_a_sample_keeps_every_match_of_its_queries() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = np.arange(200), rng.integers(0, 400, 5000)
    test = TestSet(range(5200), np.concatenate([queries, gallery]), np.zeros(5200, np.int64), 200)  # type: ignore[arg-type]
    chosen, ranked = sample(test, 1000)
    assert len(chosen) == 100 and len(chosen) + len(ranked) >= 1000 and len(np.unique(ranked)) == len(ranked)
    assert set(np.flatnonzero(np.isin(test.pids, test.pids[chosen]) & (np.arange(5200) >= 200))) <= set(ranked)
    everything = sample(test, 5200)
    assert len(everything[0]) == 200 and len(everything[1]) == 5000


def test_subsample_takes_even_steps() -> None:
    assert subsample(np.arange(10), 5).tolist() == [0, 2, 4, 6, 8]
    assert subsample(np.arange(3), 5).tolist() == [0, 1, 2] and len(subsample(np.arange(0), 5)) == 0


@pytest.mark.slow
def test_a_target_of_unlabelled_crops(config: Config, tmp_path: Path) -> None:
    """No identity, no camera, no test set: clusters by silhouette, an embedding of clusters, no rank lists."""
    store = ImageStore.open(config.target.data)
    (tmp_path / "crops").mkdir()
    for row in select(store).train.rows:
        store.decode(row).save(tmp_path / "crops" / f"{row:05d}.png")
    pack(tmp_path / "crops", tmp_path / "crops.arrow", format="folder")
    settings = small_settings((Path(config.source.data), tmp_path / "crops.arrow"), tmp_path / "run")
    unlabelled = config_from_dict(settings, ["adapt.rounds=1", "adapt.epochs=1", "pretrain.epochs=1", "model.attention=none"])
    train(unlabelled)
    pictures = take_pictures(Path(unlabelled.output))
    assert not pictures.known and not pictures.rank_lists and not pictures.attended
    assert pictures.embedding_of == "cluster" and all(one.identities is None for one in pictures.clusters)
    page = read(write_report(Path(unlabelled.output), pictures=pictures))
    check_page(page)
    assert {"Embedding", "Clusters"} <= titles(page)
    assert "identities are unknown" in page.text and "no attention module" in page.text


def test_a_source_that_is_gone_is_left_out_and_said(config: Config, tmp_path: Path) -> None:
    copy = copied(config, tmp_path, source=str(tmp_path / "gone.arrow"))
    pictures = take_pictures(copy)
    assert {one.domain for one in pictures.attended} == {"target"}
    assert any("gone.arrow: no such file" in note for note in pictures.notes)


@pytest.mark.parametrize(("target", "said"), [("gone.arrow", "no such file"), ("other", "not the data that")])
def test_a_page_is_made_without_the_target(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str, said: str
) -> None:
    copy = copied(config, tmp_path, target=config.source.data if target == "other" else str(tmp_path / target))
    with pytest.raises(UserError, match=said):
        take_pictures(copy)
    page = read(report([copy]))
    assert not page.all("img") and "Accuracy over rounds" in titles(page)
    (line,) = [record.getMessage() for record in caplog.records if "no pictures" in record.getMessage()]
    assert said in line


def copied(config: Config, folder: Path, **data: str) -> Path:
    """The run with other data in its checkpoints, from which its configuration is read."""
    import torch

    copy = folder / "copy"
    shutil.copytree(config.output, copy)
    for file in copy.glob("checkpoints/round-*.pt"):
        saved = torch.load(file, weights_only=True)
        for role, path in data.items():
            saved["config"][role]["data"] = path
        torch.save(saved, file)
    return copy


def test_the_start_of_the_run_is_recorded(config: Config) -> None:
    kept = json.loads(RunDirectory(config.output).environment.read_text())
    assert kept["versions"]["torch"] and kept["machine"]["cores"] >= 1
    assert yaml.safe_load(RunDirectory(config.output).config.read_text())["seed"] == config.seed


@pytest.fixture(scope="module")
def page(config: Config) -> Path:
    return report([Path(config.output)])


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, dark=dark)
    measured = browser.evaluate(MEASURE)
    assert measured["images"] > 100 and measured["broken"] == 0
    assert measured["scroll"] <= measured["window"], measured["past"]
    assert not measured["past"]
    assert not browser.errors
    assert browser.requests == [page.resolve().as_uri()]
    light = sum(browser.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")) > 3 * 128
    assert light is not dark


def test_the_browser_notices_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<body><main><div style='width:2000px'>wide</div><img src='http://127.0.0.1:9/x.png' alt='x'></main>"
        "<script>console.error('no')</script></body>"
    )
    browser.open(bad, 390)
    measured = browser.evaluate(MEASURE)
    assert measured["broken"] == 1 and measured["past"]
    assert browser.errors and len(browser.requests) == 2


def test_the_page_is_small_and_prints(browser: Browser, page: Path, tmp_path: Path) -> None:
    assert page.stat().st_size < 3_000_000
    browser.open(page, 1280)
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_the_whole_page_keeps_the_rules(config: Config, page: Path) -> None:
    read_page = read(page)
    check_page(read_page)
    assert {"Rank lists", "Attention", "Embedding", "Clusters"} <= titles(read_page)
    empty = write_report(Path(config.output), out=page.with_name("without.html"), pictures=Pictures(round=0))
    assert "img" not in {node.tag for node in read(empty).walk()}

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from distreid.common.errors import UserError
from distreid.evaluation import (
    Features,
    bench_score,
    hit_ranks,
    measure,
    over_splits,
    per_query,
    random_identities,
    rank,
    reranked_hits,
    single_shot,
    write_per_query,
)
from distreid.evaluation.protocols import Ranker
from tests.evaluation.sets import draw


def faces(identities: int, shots: int, camera: int, noise: float, seed: int) -> Features:
    centres = np.random.default_rng(0).standard_normal((identities, 16))
    pids = np.repeat(np.arange(identities), shots)
    jitter = np.random.default_rng([seed, camera]).standard_normal((len(pids), 16))
    return Features(centres[pids] + noise * jitter, pids, np.full(len(pids), camera))


def join(a: Features, b: Features) -> Features:
    return Features(*(np.concatenate([getattr(s, k) for s in (a, b)]) for k in ("features", "pids", "camids")))


def naive_ranks(query: Features, gallery: Features) -> np.ndarray:
    """One positive a query at most: one more than the images before it."""
    similar = query.features @ (gallery.features / np.linalg.norm(gallery.features, axis=1, keepdims=True)).T
    own = np.array([row[gallery.pids == pid][0] for row, pid in zip(similar, query.pids, strict=True)])
    return 1 + (similar > own[:, None]).sum(1)


def cmc(ranks: np.ndarray) -> np.ndarray:
    return np.array([(ranks <= r).mean() for r in range(1, 51)])


@pytest.mark.slow
def test_single_shot_draws_one_image_an_identity() -> None:
    """The classic CUHK03 evaluation, spelled out: both views query, each identity of a split is shown once, by the other view."""
    both = join(faces(40, 3, 1, 1.0, 0), faces(40, 4, 2, 1.0, 1))
    splits = [np.random.default_rng(split).permutation(40)[:25].tolist() for split in range(4)]
    trials = single_shot(both, both, splits, shots=3, seed=3)
    result = over_splits(trials)
    assert (result.splits, result.queries, result.gallery, result.queries_without_positive) == (4, 25 * 7, 25, 0)
    curves, reciprocal = [], []
    for split, pids in enumerate(splits):
        ranks = []
        for shot in range(3):
            rng = np.random.default_rng([3, split, shot])
            for camera in (1, 2):
                order = rng.permutation(np.flatnonzero(np.isin(both.pids, pids) & (both.camids != camera)))
                chosen = [order[both.pids[order] == pid][0] for pid in pids]
                ranks.append(
                    naive_ranks(both.take(np.isin(both.pids, pids) & (both.camids == camera)), both.take(np.array(chosen)))
                )
        curves.append(cmc(np.concatenate(ranks)))
        reciprocal.append((1 / np.concatenate(ranks)).mean())
    np.testing.assert_allclose(result.cmc, np.mean(curves, axis=0), atol=1e-12)
    np.testing.assert_allclose(result.cmc_std, np.std(curves, axis=0, ddof=1), atol=1e-12)
    np.testing.assert_allclose([result.mAP, result.mINP], np.mean(reciprocal), atol=1e-12)
    assert 0 < result.cmc[0] < 0.9 and result.cmc_std[0] > 0
    assert result.as_dict()["rank1_std"] == result.cmc_std[0]


def test_single_shot_without_lists_tests_everybody() -> None:
    query, gallery = faces(10, 2, 1, 0.5, 0), faces(10, 2, 2, 0.5, 1)
    junk = Features(query.features, np.full(len(query), -1), np.full(len(query), 2))
    result = over_splits(single_shot(query, join(gallery, junk)))
    assert (result.splits, result.gallery, result.queries) == (1, 10, 20)
    with pytest.raises(UserError, match="another camera than 1"):
        single_shot(query, faces(10, 2, 1, 0.5, 1))


def test_single_shot_counts_people_of_one_view() -> None:
    both = join(faces(12, 1, 1, 0.5, 0), faces(10, 1, 2, 0.5, 1))
    result = measure(both, both, "single_shot", [list(range(12))]).metrics
    assert (result["queries"], result["queries_without_positive"]) == (22, 2)
    assert result["rank1"] <= 1


def prid(seed: int = 0) -> tuple[Features, Features, np.ndarray]:
    """Cameras A (385 people) and B (749), of whom people 0 to 199 are the same."""
    view = faces(749, 1, 2, 0.8, seed + 1)
    pids = np.where(view.pids < 200, view.pids, view.pids + 1000)
    return faces(385, 1, 1, 0.8, seed), Features(view.features, pids, view.camids), pids


def test_prid_galleries_hold_649_and_285() -> None:
    query, gallery, pids = prid()
    splits = [sorted(np.random.default_rng([5, split]).permutation(200)[:100].tolist()) for split in range(10)]
    measured = measure(query, gallery, "cross_camera", splits)
    result, reverse = measured.metrics, measured.metrics["reverse"]
    assert (result["splits"], result["queries"], result["gallery"], result["queries_without_positive"]) == (10, 100, 649, 0)
    assert (reverse["splits"], reverse["queries"], reverse["gallery"]) == (10, 100, 285)
    forth, back = [], []
    for test in splits:
        train = np.setdiff1d(np.arange(200), test)
        forth.append(cmc(naive_ranks(query.take(np.array(test)), gallery.take(~np.isin(pids, train)))))
        back.append(cmc(naive_ranks(gallery.take(np.array(test)), query.take(~np.isin(query.pids, train)))))
    np.testing.assert_allclose(result["cmc"], np.mean(forth, axis=0), atol=1e-12)
    np.testing.assert_allclose(reverse["cmc"], np.mean(back, axis=0), atol=1e-12)
    assert 0 < result["rank1"] < 1
    drawn = over_splits(random_identities(query, gallery, seed=5))
    np.testing.assert_allclose(drawn.cmc, result["cmc"], atol=1e-12)
    assert over_splits(random_identities(query, gallery, seed=6)).cmc.tolist() != drawn.cmc.tolist()


@pytest.mark.slow
def test_reranking_goes_with_every_protocol() -> None:
    query, gallery, _ = prid()
    plain = measure(query, gallery, "cross_camera", [list(range(100))]).metrics
    reranked = measure(query, gallery, "cross_camera", [list(range(100))], ranker=partial(reranked_hits, lambda_value=1.0)).metrics
    np.testing.assert_allclose(reranked["cmc"], plain["cmc"], atol=1e-12)
    both = join(faces(30, 3, 1, 1.0, 0), faces(30, 4, 2, 1.0, 1))
    plain = measure(both, both, "single_shot", [list(range(30))]).metrics
    assert measure(both, both, "single_shot", [list(range(30))], ranker=reranked_hits).metrics["rank1"] > plain["rank1"]


def test_bad_splits() -> None:
    query, gallery = faces(50, 1, 1, 0.5, 0), faces(50, 1, 2, 0.5, 1)
    with pytest.raises(UserError, match="unknown protocol 'triple_query'; choose one of single_query"):
        measure(query, gallery, "triple_query")
    with pytest.raises(UserError, match="share 50 identities, but a split needs 100"):
        random_identities(query, gallery)
    with pytest.raises(UserError, match="split 1: query and gallery share none of its 2 test identities"):
        random_identities(query, gallery, [[1, 2], [97, 98]])
    with pytest.raises(UserError, match="no random splits"):
        over_splits(single_shot(query, gallery, shots=0))
    strangers = Features(gallery.features, gallery.pids + 99, gallery.camids)
    with pytest.raises(UserError, match="no query with a positive"):
        measure(query, strangers, "single_shot")
    one_camera = Features(gallery.features, gallery.pids, query.camids)
    with pytest.raises(UserError, match="no query with a positive"):
        measure(query, one_camera, "cross_camera", [list(range(20))])


def test_per_query_tables_hold_every_ranking(tmp_path: Path) -> None:
    query, gallery = draw(1)
    measured = measure(query, gallery)
    pids, camids = np.concatenate([query.pids, gallery.pids]), np.concatenate([query.camids, gallery.camids])
    write_per_query(tmp_path / "q.parquet", measured.trials, {"pid": pids, "camid": camids})
    table, each = parquet.read_table(tmp_path / "q.parquet"), per_query(hit_ranks(query, gallery))
    assert table["pid"].to_pylist() == query.pids.tolist() and table["camid"].to_pylist() == query.camids.tolist()
    assert table["image"].to_pylist() == list(range(60)) and set(table["gallery"].to_pylist()) == {measured.metrics["gallery"]}
    assert table["first_hit"].to_pylist() == [rank or None for rank in each.first_hit.tolist()]
    assert table["ap_hits"].null_count == measured.metrics["queries_without_positive"] > 0
    known = [value for value in table["ap_hits"].to_pylist() if value is not None]
    assert np.mean(known) == pytest.approx(measured.metrics["mAP"], abs=1e-15)

    query, gallery, pids = prid()
    measured = measure(query, gallery, "cross_camera", [list(range(100)), list(range(50, 150))])
    write_per_query(tmp_path / "p.parquet", measured.trials, {"pid": np.concatenate([query.pids, pids])})
    table = parquet.read_table(tmp_path / "p.parquet")
    assert table["split"].to_pylist() == [0] * 100 + [1] * 100 + [0] * 100 + [1] * 100
    assert table["pid"].to_pylist() == 2 * [*range(100), *range(50, 150)], "the second half are camera B's images"
    assert min(table["image"].to_pylist()[200:]) == len(query)


def test_bench_reports_what_it_ran() -> None:
    seen: list[tuple[int, int]] = []
    found = bench_score(50, 800, 32, progress=lambda done, total: seen.append((done, total)))
    assert (found["queries"], found["gallery"], found["dim"], found["device"]) == (50, 800, 32, "cpu")
    assert seen[-1] == (50, 50)
    assert found["rank_seconds"] > 0
    assert found["peak_bytes"] > 800 * 32 * 4
    assert 0 < found["mAP"] <= 1


def alone(query: Features, gallery: Features) -> list[float]:
    """AP of each query when nothing but the query itself, which has its very features, is left out of the gallery."""
    precisions = []
    for features, pid in zip(query.features, query.pids, strict=True):
        itself = (gallery.features == features).all(1) & (gallery.pids == pid)
        others = gallery.take(~itself)
        unit = others.features / np.linalg.norm(others.features, axis=1, keepdims=True)
        hits = (others.pids == pid)[np.argsort(-(unit @ features), kind="stable")]
        places = np.flatnonzero(hits) + 1
        precisions.append(float(np.mean(np.arange(1, len(places) + 1) / places)))
    return precisions


@pytest.mark.parametrize("ranker", [hit_ranks, reranked_hits])
def test_without_cameras_nothing_but_the_query_itself_is_left_out(ranker: Ranker) -> None:
    """Every image queried in all of them: with a camera known to be one, nobody could be found."""
    everyone = faces(30, 4, 1, 1.0, 0)
    with pytest.raises(UserError, match="no query has a positive"):
        measure(everyone, everyone, ranker=ranker)
    unknown = everyone.with_camids(np.full(len(everyone), -1))
    found = measure(unknown, unknown, ranker=ranker)
    assert (found.metrics["cameras"], found.metrics["queries"], found.metrics["gallery"]) == (False, 120, 120)
    assert (found.trials[0].hits.positives == 3).all()
    one_side = measure(everyone, unknown, ranker=ranker)
    assert one_side.metrics == found.metrics
    if ranker is hit_ranks:
        assert found.metrics["mAP"] == pytest.approx(np.mean(alone(everyone, everyone)), abs=1e-12)
    part = np.arange(0, 120, 3)
    fewer, rest = unknown.take(part), unknown.take(np.setdiff1d(np.arange(120), part))
    if ranker is hit_ranks:
        assert measure(fewer, rest).metrics["mAP"] == pytest.approx(np.mean(alone(fewer, rest)), abs=1e-12)
        assert measure(fewer, rest).metrics["rank1"] == rank(fewer, rest).rank1, "no query stands in this gallery"


def test_known_cameras_are_no_matter_of_this() -> None:
    """A few unknown ones are taken for others than every other, as before, and the metrics have the keys that they had."""
    query, gallery = draw(0)
    metrics = measure(query, gallery).metrics
    assert "cameras" not in metrics and metrics == {"protocol": "single_query"} | rank(query, gallery).as_dict()

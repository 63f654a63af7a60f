import numpy as np
import pytest

from distreid.errors import UserError
from distreid.evaluation import Features, bench_score, random_identities, single_shot


def faces(identities: int, shots: int, camera: int, noise: float, seed: int) -> Features:
    centres = np.random.default_rng(0).standard_normal((identities, 16))
    pids = np.repeat(np.arange(identities), shots)
    jitter = np.random.default_rng([seed, camera]).standard_normal((len(pids), 16))
    return Features(centres[pids] + noise * jitter, pids, np.full(len(pids), camera))


def join(a: Features, b: Features) -> Features:
    return Features(*(np.concatenate([getattr(s, k) for s in (a, b)]) for k in ("features", "pids", "camids")))


def naive_cmc(query: Features, gallery: Features) -> np.ndarray:
    """One positive a query at most: the share of queries whose positive has fewer than r images before it."""
    similar = query.features @ (gallery.features / np.linalg.norm(gallery.features, axis=1, keepdims=True)).T
    own = np.array([row[gallery.pids == pid][0] for row, pid in zip(similar, query.pids, strict=True)])
    ranks = 1 + (similar > own[:, None]).sum(1)
    return np.array([(ranks <= r).mean() for r in range(1, 51)])


def test_single_shot_draws_one_image_an_identity() -> None:
    query, gallery = faces(30, 3, 1, 1.0, 0), faces(30, 4, 2, 1.0, 1)
    result = single_shot(query, gallery, splits=6, seed=3)
    assert (result.splits, result.queries, result.gallery, result.queries_without_positive) == (6, 90, 30, 0)
    curves = []
    for split in range(6):
        order = np.random.default_rng([3, split]).permutation(len(gallery))
        chosen = [order[np.flatnonzero(gallery.pids[order] == pid)[0]] for pid in range(30)]
        curves.append(naive_cmc(query, gallery.take(np.array(chosen))))
    np.testing.assert_allclose(result.cmc, np.mean(curves, axis=0), atol=1e-12)
    np.testing.assert_allclose(result.cmc_std, np.std(curves, axis=0, ddof=1), atol=1e-12)
    assert result.cmc_std[0] > 0
    assert result.as_dict()["rank1_std"] == result.cmc_std[0]


def test_single_shot_matches_across_cameras_only() -> None:
    """Both cameras on both sides: a query's own camera would hold the very same image, at rank 1 always."""
    both = join(faces(20, 2, 1, 2.0, 0), faces(20, 2, 2, 2.0, 0))
    mixed = single_shot(both, both, splits=3)
    assert mixed.gallery == 20
    assert mixed.queries_without_positive == 0
    assert mixed.cmc[0] < 0.9
    with pytest.raises(UserError, match="another camera than 1"):
        single_shot(faces(20, 2, 1, 2.0, 0), faces(20, 2, 1, 2.0, 1))


def test_single_shot_leaves_junk_out() -> None:
    query, gallery = faces(10, 2, 1, 0.5, 0), faces(10, 2, 2, 0.5, 1)
    junk = Features(query.features, np.full(len(query), -1), np.full(len(query), 2))
    assert single_shot(query, join(gallery, junk), splits=4).gallery == 10


def test_prid_galleries_hold_649_of_749() -> None:
    query = faces(385, 1, 1, 0.8, 0)
    view = faces(749, 1, 2, 0.8, 1)
    pids = np.where(view.pids < 200, view.pids, view.pids + 1000)  # 200 people are seen by both cameras
    gallery = Features(view.features, pids, view.camids)
    result = random_identities(query, gallery, seed=5)
    assert (result.splits, result.queries, result.gallery, result.queries_without_positive) == (10, 100, 649, 0)
    curves = []
    for split in range(10):
        order = np.random.default_rng([5, split]).permutation(200)
        test, train = order[:100], order[100:]
        curves.append(naive_cmc(query.take(test), gallery.take(~np.isin(pids, train))))
    np.testing.assert_allclose(result.cmc, np.mean(curves, axis=0), atol=1e-12)
    assert 0 < result.cmc[0] < 1
    assert random_identities(query, gallery, seed=5).as_dict() == result.as_dict()
    assert random_identities(query, gallery, seed=6).cmc.tolist() != result.cmc.tolist()
    assert random_identities(gallery, query).gallery == 385 - 100  # the other direction


def test_bad_splits() -> None:
    query, gallery = faces(50, 1, 1, 0.5, 0), faces(50, 1, 2, 0.5, 1)
    with pytest.raises(UserError, match="share 50 identities, but a split needs 100"):
        random_identities(query, gallery)
    with pytest.raises(UserError, match="splits must be at least 1"):
        single_shot(query, gallery, splits=0)
    strangers = Features(gallery.features, gallery.pids + 99, gallery.camids)
    with pytest.raises(UserError, match="no query with a positive"):
        single_shot(query, strangers)
    one_camera = Features(gallery.features, gallery.pids, query.camids)
    with pytest.raises(UserError, match="no query with a positive"):
        random_identities(query, one_camera, test_identities=20)


def test_bench_reports_what_it_ran() -> None:
    seen: list[tuple[int, int]] = []
    found = bench_score(50, 800, 32, progress=lambda done, total: seen.append((done, total)))
    assert (found["queries"], found["gallery"], found["dim"], found["device"]) == (50, 800, 32, "cpu")
    assert seen[-1] == (50, 50)
    assert found["rank_seconds"] > 0
    assert found["peak_bytes"] > 800 * 32 * 4
    assert 0 < found["mAP"] <= 1

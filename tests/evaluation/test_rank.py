import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distreid.common.errors import UserError
from distreid.evaluation import Features, Metrics, hit_ranks, hits, per_query, rank, summarise
from distreid.retrieval.products import full_float32
from tests.evaluation import oracle
from tests.evaluation.sets import draw


def assert_equal(metrics: Metrics, truth: oracle.Truth) -> None:
    assert metrics.mAP_hits == pytest.approx(np.mean(truth.ap_hits), rel=0, abs=1e-12)
    assert metrics.mAP_trapezoid == pytest.approx(np.mean(truth.ap_trapezoid), rel=0, abs=1e-12)
    assert metrics.mINP == pytest.approx(np.mean(truth.inp), rel=0, abs=1e-12)
    np.testing.assert_allclose(metrics.cmc, truth.cmc, rtol=0, atol=1e-12)
    assert metrics.queries_without_positive == truth.without


@pytest.fixture(params=["compiled", "searched"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of counting; the one for a GPU runs on the CPU here."""
    if request.param == "searched":
        monkeypatch.setattr(hits, "_count_compiled", hits._count_searched)
    return str(request.param)


@pytest.mark.slow
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_naive_loop(seed: int, integers: bool, normalize: bool) -> None:
    query, gallery = draw(seed, integers=integers)
    truth = oracle.evaluate(query, gallery, normalize)
    assert truth.without > 0
    found = hit_ranks(query, gallery, normalize=normalize, block=7)
    assert [found.ranks[a:b].tolist() for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)] == truth.ranks
    assert_equal(summarise(found), truth)


@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 8),
    gallery=st.integers(2, 40),
    dim=st.integers(1, 19),
    identities=st.integers(1, 4),
    searched=st.booleans(),
    normalize=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_any_small_set(seed: int, queries: int, gallery: int, dim: int, identities: int, searched: bool, normalize: bool) -> None:
    try:
        q, g = draw(seed, queries, gallery, dim, identities)
    except UserError:
        return  # collapsed by chance
    if (g.pids == -1).all() or not (q.features.any() and g.features[g.pids != -1].any()):
        return
    truth = oracle.evaluate(q, g, normalize)
    if not truth.inp:
        with pytest.raises(UserError, match="no query has a positive"):
            rank(q, g, normalize=normalize)
        return
    with pytest.MonkeyPatch.context() as patch:
        if searched:
            patch.setattr(hits, "_count_compiled", hits._count_searched)
        assert_equal(rank(q, g, normalize=normalize), truth)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("normalize", [True, False])
def test_near_ties_are_ordered_by_float64(normalize: bool) -> None:
    """Rows that differ in one last bit of one coordinate: float32 products cannot tell them apart."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal(512).astype(np.float32)
    features = np.repeat(base[None], 200, axis=0)
    spot = rng.integers(0, 512, 200)
    features[np.arange(200), spot] = np.nextafter(base[spot], np.where(rng.random(200) < 0.5, 9, -9), dtype=np.float32)
    features = np.concatenate([features, -base[None]])
    gallery = Features(features, rng.integers(0, 4, 201), np.ones(201, int))
    query = Features(rng.standard_normal((6, 512), dtype=np.float32), np.array([1, 2, 3] * 2), np.zeros(6, int))
    exact = query.features.astype(float) @ features.T.astype(float)
    squares = (features.astype(float) ** 2).sum(1)
    distance = -exact / np.sqrt(squares) if normalize else squares / 2 - exact
    order = np.argsort(distance, axis=1, kind="stable")
    expected = [np.flatnonzero(gallery.pids[order[q]] == query.pids[q]) + 1 for q in range(6)]
    found = hit_ranks(query, gallery, normalize=normalize)
    np.testing.assert_array_equal(found.ranks, np.concatenate(expected))


@pytest.mark.usefixtures("engine")
def test_block_threads_and_training_precision_change_nothing() -> None:
    query, gallery = draw(5, queries=90, gallery=3000, dim=256, integers=False)
    expected = hit_ranks(query, gallery).ranks
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        for block, count, level in [(1, 1, "highest"), (13, 2, "medium"), (90, 3, "high")]:
            torch.set_num_threads(count)
            torch.set_float32_matmul_precision(level)
            np.testing.assert_array_equal(hit_ranks(query, gallery, block=block).ranks, expected)
            assert torch.get_float32_matmul_precision() == level
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def test_products_are_full_float32_whatever_training_asked_for() -> None:
    switches = [b for b in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul) if hasattr(b, "fp32_precision")]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with full_float32():
            if switches:
                assert [b.fp32_precision for b in switches] == ["ieee", "ieee"]
            else:
                assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.filterwarnings("error")
def test_read_only_features_are_ranked_in_place() -> None:
    query, gallery = draw(4)
    expected = hit_ranks(query, gallery).ranks
    gallery.features.setflags(write=False)
    np.testing.assert_array_equal(hit_ranks(query, gallery).ranks, expected)


def line(matches: list[bool]) -> Metrics:
    """One query at (1, 0); gallery images turn away from it step by step."""
    angles = np.arange(1, len(matches) + 1) / 20
    gallery = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    pids = np.where(matches, 7, 0)
    return rank(
        Features(np.array([[1, 0]], np.float32), np.array([7]), np.array([1])),
        Features(gallery, pids, np.full(len(matches), 2)),
    )


def test_golden_average_precisions() -> None:
    """Hits at ranks 1, 2, 4, 7: (1 + 1 + 3/4 + 4/7) / 4, and (1 + 1 + (2/3 + 3/4)/2 + (3/6 + 4/7)/2) / 4 by hand."""
    metrics = line([True, True, False, True, False, False, True, False])
    assert metrics.mAP_hits == pytest.approx((2 + 3 / 4 + 4 / 7) / 4, abs=1e-15)
    assert metrics.mAP_trapezoid == pytest.approx((2 + (2 / 3 + 3 / 4) / 2 + (3 / 6 + 4 / 7) / 2) / 4, abs=1e-15)
    assert (round(metrics.mAP_hits, 3), round(metrics.mAP_trapezoid, 3)) == (0.830, 0.811)
    assert metrics.mINP == 4 / 7
    assert metrics.rank1 == 1.0


def test_late_first_hit() -> None:
    metrics = line([False] * 5 + [True])
    assert (metrics.rank1, metrics.rank5, metrics.rank10, metrics.rank20) == (0, 0, 1, 1)
    assert metrics.mAP_hits == 1 / 6
    assert metrics.mAP_trapezoid == 1 / 12
    assert metrics.cmc.shape == (50,)


def test_the_named_definition_is_shown() -> None:
    query, gallery = draw(0)
    hits_, trapezoid = rank(query, gallery), rank(query, gallery, ap="trapezoid")
    assert hits_.mAP == hits_.mAP_hits > trapezoid.mAP == trapezoid.mAP_trapezoid == hits_.mAP_trapezoid
    assert hits_.as_dict()["ap"] == "hits"
    assert trapezoid.as_dict()["mAP"] == trapezoid.mAP
    with pytest.raises(UserError, match="'area' is unknown"):
        rank(query, gallery, ap="area")  # type: ignore[arg-type]


def test_only_same_identity_and_same_camera_is_ignored() -> None:
    """Nearest first: own camera (ignored), another identity of the same camera (counts), junk (ignored), the hit."""
    features = np.array([[1, 0], [9, 1], [8, 1], [7, 1]], np.float32)
    query = Features(np.array([[1, 0]], np.float32), np.array([3]), np.array([1]))
    pids = np.array([3, 4, -1, 3])
    found = hit_ranks(query, Features(features, pids, np.array([1, 1, 2, 2])))
    assert found.ranks.tolist() == [2]
    assert (found.gallery, found.junk) == (3, 1)
    unknown = hit_ranks(query, Features(features, pids, np.array([-1, 1, 2, 2])))
    assert unknown.ranks.tolist() == [1, 3]


def test_per_query_agrees_with_the_means() -> None:
    query, gallery = draw(1)
    truth = oracle.evaluate(query, gallery)
    each = per_query(hit_ranks(query, gallery))
    assert each.positives.tolist() == [len(r) for r in truth.ranks]
    assert each.first_hit.tolist() == [r[0] if r else 0 for r in truth.ranks]
    found = each.positives > 0
    np.testing.assert_allclose(each.ap_hits[found], truth.ap_hits, atol=1e-12)
    np.testing.assert_allclose(each.ap_trapezoid[found], truth.ap_trapezoid, atol=1e-12)
    np.testing.assert_allclose(each.inp[found], truth.inp, atol=1e-12)
    assert np.isnan(each.ap_hits[~found]).all()


def test_progress_counts_queries() -> None:
    query, gallery = draw(2, queries=10)
    seen: list[tuple[int, int]] = []
    rank(query, gallery, block=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_bad_pairs_are_named() -> None:
    query, gallery = draw(3)
    narrow = Features(gallery.features[:, :5], gallery.pids, gallery.camids)
    with pytest.raises(UserError, match="query features have 12 dimensions and gallery features 5"):
        rank(query, narrow)
    with pytest.raises(UserError, match="only junk"):
        rank(query, Features(gallery.features, np.full(len(gallery), -1), gallery.camids))
    with pytest.raises(UserError, match="no query has a positive"):
        rank(query, Features(gallery.features, np.zeros(len(gallery), int), gallery.camids))
    with pytest.raises(UserError, match="largest gallery feature norm"):
        rank(query, Features(gallery.features * np.float32(1e20), gallery.pids, gallery.camids))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="torch sees no GPU"):
            rank(query, gallery, device="cuda")


@pytest.mark.gpu
def test_cuda_gives_the_same_ranks() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    query, gallery = draw(6, queries=200, gallery=3000, dim=128, integers=False)
    expected = hit_ranks(query, gallery).ranks
    np.testing.assert_array_equal(hit_ranks(query, gallery, device="cuda").ranks, expected)

"""The sparse engine against the dense oracle and scikit-learn, on random, clustered and duplicated features."""

import hashlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from distreid.common.errors import UserError
from distreid.labels import dbscan, eps_from_proportion, jaccard_graph, make_pseudo_labels, reference
from tests.features import KINDS, draw_features, to_dense


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@example(kind="random", count=33, dim=2, k1=4, k2_share=0.0, p=0.001, min_samples=1, seed=1)  # eps is the distance of one pair
@example(kind="one_crowd", count=110, dim=2, k1=2, k2_share=0.0, p=0.001, min_samples=1, seed=167)  # eps 0, and a pair at 8.6e-10
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(20, 130),
    dim=st.integers(2, 40),
    k1=st.integers(1, 19),
    k2_share=st.floats(0, 1),
    p=st.sampled_from([1e-3, 5e-3, 2e-2]),
    min_samples=st.integers(1, 6),
    seed=st.integers(0, 10_000),
)
def test_equals_the_dense_oracle(kind, count, dim, k1, k2_share, p, min_samples, seed) -> None:
    k2 = max(1, round(k2_share * k1))
    features_ND = draw_features(kind, count, dim, seed)
    expected_NN = reference.jaccard(features_ND, k1, k2)
    graph = jaccard_graph(features_ND, k1, k2)
    assert np.abs(to_dense(graph, count) - expected_NN).max() < 1e-6
    if round(p * count * (count - 1) / 2) < 1:
        return
    eps = reference.eps(expected_NN, p)
    assert eps_from_proportion(graph, p, count) == pytest.approx(eps, abs=1e-9)
    # scikit-learn knows no eps = 0, and where a single pair is asked for, eps is its distance: rounding must not put it beyond.
    within = eps + 1e-13
    labels_N = DBSCAN(eps=within, min_samples=min_samples, metric="precomputed").fit_predict(expected_NN)
    np.testing.assert_array_equal(dbscan(graph, within, min_samples), labels_N)
    if (expected_NN[np.triu_indices(count, 1)] < 1).sum() < round(p * count * (count - 1) / 2):
        with pytest.raises(UserError, match="p asks for"):
            make_pseudo_labels(features_ND, k1=k1, k2=k2, p=p, min_samples=min_samples)
        return
    result = make_pseudo_labels(features_ND, k1=k1, k2=k2, p=p, min_samples=min_samples)
    assert result.eps == pytest.approx(eps, abs=1e-9)
    np.testing.assert_array_equal(result.labels, labels_N)


def test_paper_settings_on_clusters() -> None:
    features_ND = draw_features("clustered", 700, 64, 3)
    expected_NN = reference.jaccard(features_ND, 30, 6)
    result = make_pseudo_labels(features_ND)
    eps = reference.eps(expected_NN, 1.6e-3)
    labels_N = DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit_predict(expected_NN)
    assert labels_N.max() >= 5 and (labels_N == -1).any()
    np.testing.assert_array_equal(result.labels, labels_N)
    unit_ND = features_ND / np.linalg.norm(features_ND, axis=1, keepdims=True)
    for k in range(result.num_clusters):
        np.testing.assert_allclose(result.centers[k], unit_ND[labels_N == k].mean(0), atol=1e-6)
    raw = make_pseudo_labels(features_ND, features="raw")
    np.testing.assert_allclose(raw.centers[0], features_ND[labels_N == 0].mean(0), atol=1e-5)
    fixed = make_pseudo_labels(features_ND, eps=eps)
    np.testing.assert_array_equal(fixed.labels, labels_N)


def test_the_graph_is_symmetric_sorted_and_keeps_zeros() -> None:
    features_ND = draw_features("half_copies", 120, 16, 0)
    graph = jaccard_graph(features_ND, 10, 3)
    assert graph.has_sorted_indices and (abs(graph - graph.T)).nnz == 0
    assert np.all(graph.diagonal() == 0) and (graph.data == 0).sum() >= 120 + 2 * 60  # the diagonal, and each pair of copies twice
    assert graph.data.max() < 1


@pytest.mark.parametrize("kind", ["clustered", "half_copies", "one_crowd"])
def test_pairs_are_counted_with_their_copies(kind) -> None:
    features_ND = draw_features(kind, 120, 16, 0)
    expected = int((reference.jaccard(features_ND, 10, 3)[np.triu_indices(120, 1)] < 1).sum())
    all_pairs = 120 * 119 / 2
    stats = make_pseudo_labels(features_ND, k1=10, k2=3, p=(expected - 1) / all_pairs).stats
    assert stats["pairs"] == expected
    with pytest.raises(UserError, match=f"only {expected:,} pairs share"):
        make_pseudo_labels(features_ND, k1=10, k2=3, p=(expected + 1) / all_pairs)


def test_eps_counts_missing_pairs_as_one() -> None:
    graph = jaccard_graph(draw_features("clustered", 60, 8, 1), 3, 1)
    stored = np.sort(graph.data[graph.tocoo().row < graph.tocoo().col])
    asked = len(stored) + 100
    assert eps_from_proportion(graph, asked / (60 * 59 / 2), 60) == pytest.approx((stored.sum() + 100) / asked)


def test_a_border_point_goes_to_the_first_cluster_that_reaches_it() -> None:
    from scipy.sparse import csr_matrix

    distances_NN = np.ones((9, 9))
    np.fill_diagonal(distances_NN, 0)
    for group in ([1, 2, 3], [5, 6, 7]):
        distances_NN[np.ix_(group, group)] = 0.1
    distances_NN[0, [1, 7]] = distances_NN[[1, 7], 0] = 0.3  # a border point between two clusters
    expected_N = DBSCAN(eps=0.3, min_samples=4, metric="precomputed").fit_predict(distances_NN)
    np.testing.assert_array_equal(dbscan(csr_matrix(np.where(distances_NN < 1, distances_NN, 0)), 0.3, 4), expected_N)
    expected_N = DBSCAN(eps=0.3, min_samples=3, metric="precomputed").fit_predict(distances_NN)
    np.testing.assert_array_equal(dbscan(csr_matrix(np.where(distances_NN < 1, distances_NN, 0)), 0.3, 3), expected_N)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types_and_layouts_give_the_labels_of_their_values(dtype) -> None:
    features_ND = draw_features("clustered", 200, 24, 5).astype(dtype)
    expected = make_pseudo_labels(features_ND.astype(np.float64), p=0.01)
    spread_ND = np.asfortranarray(features_ND)
    for same_ND in (features_ND, spread_ND, np.repeat(features_ND, 2, axis=1)[:, ::2]):
        result = make_pseudo_labels(same_ND, p=0.01)
        np.testing.assert_array_equal(result.labels, expected.labels)
        assert result.eps == pytest.approx(expected.eps, abs=1e-12)


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    make_pseudo_labels(draw_features("clustered", 100, 8, 0), p=0.01, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (100, 100)


@pytest.mark.parametrize(
    ("kind", "p", "digest", "eps"),
    [
        ("random", 1.6e-3, "3e9d4b60991e1c65", 0.7304063663020591),
        ("clustered", 1.6e-3, "4d1445d385ba54ea", 0.06438582740905377),
        ("half_copies", 1.6e-3, "c5c3e0cb1855e667", 0.008055407463802613),
        ("few_values", 2e-2, "89b734d8d72bce4f", 0.0),
        ("one_crowd", 1.6e-3, "12763a10a52cefed", 0.0),
    ],
)
def test_labels_are_those_of_0_1_0(kind, p, digest, eps) -> None:
    result = make_pseudo_labels(draw_features(kind, 1500, 64, 11), p=p)
    assert hashlib.sha256(result.labels.astype("<i8").tobytes()).hexdigest()[:16] == digest
    assert result.eps == pytest.approx(eps, rel=1e-12)

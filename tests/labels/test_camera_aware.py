"""CA-Jaccard against a dense, slow, obvious form; what cannot be camera-aware gives one clear line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from distreid.common.errors import UserError
from distreid.labels import LabelSettings, jaccard_graph, make_pseudo_labels, reference
from tests.features import KINDS, draw_features, to_dense


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(20, 110),
    dim=st.integers(2, 40),
    cameras=st.integers(2, 9),
    uneven=st.booleans(),
    sizes=st.tuples(st.integers(1, 8), st.integers(1, 20), st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 10_000),
)
def test_equals_the_dense_form(kind, count, dim, cameras, uneven, sizes, seed) -> None:
    features_ND = draw_features(kind, count, dim, seed)
    random = np.random.default_rng(seed)
    camids_N = random.integers(0, cameras, count) ** (2 if uneven else 1) + 3
    camids_N[:2] = [3, 4]
    k1_intra, k1_inter = sizes[:2]
    how = LabelSettings(
        k1_intra=k1_intra,
        k1_inter=k1_inter,
        k2_intra=max(1, round(sizes[2] * k1_intra)),
        k2_inter=max(1, round(sizes[3] * k1_inter)),
    )
    expected_NN = reference.camera_aware_jaccard(features_ND, camids_N, how.k1_intra, how.k1_inter, how.k2_intra, how.k2_inter)
    graph = jaccard_graph(features_ND, settings=how, camids=camids_N)
    assert np.abs(to_dense(graph, count) - expected_NN).max() < 1e-6
    try:
        result = make_pseudo_labels(features_ND, how, p=0.02, camids=camids_N)
    except UserError as error:
        assert "p asks for" in str(error)
        return
    assert result.eps == pytest.approx(reference.eps(expected_NN, 0.02), abs=1e-9)
    fixed = make_pseudo_labels(features_ND, how, eps=0.37, min_samples=3, camids=camids_N)
    expected_N = DBSCAN(eps=0.37, min_samples=3, metric="precomputed").fit_predict(expected_NN)
    np.testing.assert_array_equal(fixed.labels, expected_N)


def test_it_joins_what_cameras_keep_apart() -> None:
    """Identities that every camera shifts its own way: plain distances cluster cameras, camera-aware ones cluster people."""
    random = np.random.default_rng(0)
    pids_N, camids_N = np.repeat(np.arange(40), 24), np.tile(np.arange(4), 240)
    shift_CD, people_PD = 1.4 * random.standard_normal((4, 64)), random.standard_normal((40, 64))
    features_ND = (people_PD[pids_N] + shift_CD[camids_N] + 0.5 * random.standard_normal((960, 64))).astype(np.float32)

    def accuracy(labels_N) -> float:
        """Share of the pairs of one person that share a cluster."""
        same_NN = pids_N[:, None] == pids_N
        joined_NN = (labels_N[:, None] == labels_N) & (labels_N >= 0)
        return float((joined_NN & same_NN).sum() / same_NN.sum())

    plain = make_pseudo_labels(features_ND, p=0.02)
    aware = make_pseudo_labels(features_ND, p=0.02, camids=camids_N)
    assert accuracy(aware.labels) > accuracy(plain.labels) + 0.2


@pytest.mark.parametrize(
    ("camids_N", "message"),
    [
        (np.zeros(60, np.int64), "all features are of one camera"),
        (np.arange(59), "one for each of the 60 features"),
        (np.arange(60) / 2, "whole numbers"),
        (np.arange(60) - 3, "3 of 60 cameras are unknown"),
    ],
)
def test_cameras_that_will_not_do(camids_N, message) -> None:
    with pytest.raises(UserError, match=message):
        make_pseudo_labels(draw_features("random", 60, 4, 0), camids=camids_N)


def test_list_sizes_that_will_not_do() -> None:
    features_ND = draw_features("random", 60, 4, 0)
    with pytest.raises(UserError, match="k2_intra=6 must not be above k1_intra=5"):
        make_pseudo_labels(features_ND, k2_intra=6)
    with pytest.raises(UserError, match="k1_inter=0 must be greater than 0"):
        make_pseudo_labels(features_ND, k1_inter=0)

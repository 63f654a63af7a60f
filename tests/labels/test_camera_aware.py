"""CA-Jaccard and features normalised by camera, against dense, slow, obvious forms; what cannot be gives one clear line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from distreid.common.errors import UserError
from distreid.labels import LabelSettings, jaccard_graph, make_pseudo_labels, reference
from distreid.retrieval.cameras import normalized_by_camera
from distreid.retrieval.prepare import with_norms
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


def shifted_by_cameras() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features_ND, pids_N, camids_N): 40 people, whose features every one of four cameras shifts its own way."""
    random = np.random.default_rng(0)
    pids_N, camids_N = np.repeat(np.arange(40), 24), np.tile(np.arange(4), 240)
    shift_CD, people_PD = 1.4 * random.standard_normal((4, 64)), random.standard_normal((40, 64))
    features_ND = people_PD[pids_N] + shift_CD[camids_N] + 0.5 * random.standard_normal((960, 64))
    return features_ND.astype(np.float32), pids_N, camids_N


@pytest.mark.parametrize("keys", [{}, {"camera_normalize": True}, {"camera_normalize": True, "camera_aware": True}])
def test_it_joins_what_cameras_keep_apart(keys: dict[str, bool]) -> None:
    """Plain distances cluster cameras, those by camera cluster people."""
    features_ND, pids_N, camids_N = shifted_by_cameras()

    def joined(labels_N: np.ndarray) -> float:
        """Share of the pairs of one person that share a cluster."""
        same_NN = pids_N[:, None] == pids_N
        joined_NN = (labels_N[:, None] == labels_N) & (labels_N >= 0)
        return float((joined_NN & same_NN).sum() / same_NN.sum())

    plain = make_pseudo_labels(features_ND, p=0.02)
    by_camera = make_pseudo_labels(features_ND, p=0.02, camids=camids_N, **keys)
    assert joined(by_camera.labels) > joined(plain.labels) + 0.2


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(("random", "clustered")),
    cameras=st.integers(2, 4),
    dim=st.integers(2, 40),
    aware=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_normalised_features_equal_the_dense_form(kind: str, cameras: int, dim: int, aware: bool, seed: int) -> None:
    count = 100
    features_ND, camids_N = draw_features(kind, count, dim, seed), np.arange(count) % cameras + 2
    how = LabelSettings(camera_normalize=True, camera_aware=aware, k1=12, k2=4, k1_intra=4, k1_inter=9, k2_intra=2, k2_inter=3)
    normalised_ND = reference.normalized_by_camera(features_ND, camids_N)
    if aware:
        expected_NN = reference.camera_aware_jaccard(normalised_ND, camids_N, 4, 9, 2, 3)
    else:
        expected_NN = reference.jaccard(normalised_ND, 12, 4)
    graph = jaccard_graph(features_ND, settings=how, camids=camids_N)
    differs_NN = np.abs(to_dense(graph, count) - expected_NN) > 1e-5
    assert differs_NN.mean() < 0.01, "but for neighbours that float32 cannot tell apart"


def test_centres_are_of_the_features_that_were_given() -> None:
    features_ND, _, camids_N = shifted_by_cameras()
    for features in ("l2", "raw"):
        labels = make_pseudo_labels(features_ND, p=0.02, camids=camids_N, camera_normalize=True, features=features)
        given_ND = features_ND / np.linalg.norm(features_ND, axis=1, keepdims=True) if features == "l2" else features_ND
        expected_KD = np.stack([given_ND[labels.labels == k].mean(0) for k in range(labels.num_clusters)])
        np.testing.assert_allclose(labels.centers, expected_KD, atol=1e-6)


def test_cameras_with_few_images_take_the_statistics_of_all() -> None:
    features_ND, _, camids_N = shifted_by_cameras()
    features_ND[:, 5] = 0  # does not vary
    camids_N[:3], camids_N[3:43] = 7, 8  # three images; forty copies of one
    features_ND[3:43] = features_ND[3]
    by_all_ND = features_ND / np.linalg.norm(features_ND, axis=1, keepdims=True)
    deviation_D = by_all_ND.std(0)
    deviation_D[5] = 1
    by_all_ND = (by_all_ND - by_all_ND.mean(0)) / deviation_D
    found_ND = normalized_by_camera(*with_norms(features_ND, 1), camids_N)
    np.testing.assert_allclose(found_ND[:43], by_all_ND[:43], atol=1e-4)
    assert np.isfinite(found_ND).all() and not found_ND[:, 5].any()
    of_a_camera = found_ND[camids_N == 2]
    np.testing.assert_allclose(of_a_camera.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(np.delete(of_a_camera.std(0), 5), 1, atol=1e-5)


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

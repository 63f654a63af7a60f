"""What is said of each point of a labelling, against scikit-learn and loops; the threshold against all pairs one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from distreid.common.errors import UserError
from distreid.labels import make_pseudo_labels, reference
from distreid.labels.members import center_distances, silhouettes
from distreid.labels.settings import label_settings
from distreid.labels.threshold import calibrate
from tests.features import draw_features

SETTINGS = label_settings(k1=10, k2=3, p=0.01)


@pytest.mark.parametrize("kind", ["clustered", "half_copies"])
def test_silhouettes_are_those_of_the_dense_distances(kind: str) -> None:
    features_ND = draw_features(kind, 300, 12, 4)
    made = make_pseudo_labels(features_ND, SETTINGS)
    found_N = silhouettes(features_ND, made.labels, SETTINGS)
    distances_NN = reference.jaccard(features_ND, 10, 3)
    np.fill_diagonal(distances_NN, 0)
    inside = made.labels >= 0
    assert made.num_clusters > 3 and not inside.all()
    expected = silhouette_samples(distances_NN[np.ix_(inside, inside)], made.labels[inside], metric="precomputed")
    np.testing.assert_allclose(found_N[inside], expected, atol=1e-9)
    assert np.isnan(found_N[~inside]).all()
    assert found_N[inside].mean() == pytest.approx(made.quality["silhouette"], abs=1e-12)


def test_silhouettes_are_camera_aware_where_the_labels_are() -> None:
    features_ND, camids_N = draw_features("clustered", 200, 12, 4), np.tile([1, 2], 100)
    made = make_pseudo_labels(features_ND, SETTINGS, camids=camids_N, eps=0.5)
    found_N = silhouettes(features_ND, made.labels, SETTINGS, camids=camids_N)
    assert found_N[made.labels >= 0].mean() == pytest.approx(made.quality["silhouette"], abs=1e-12)
    assert not np.allclose(np.nan_to_num(found_N), np.nan_to_num(silhouettes(features_ND, made.labels, SETTINGS)))


def test_one_cluster_has_no_silhouette() -> None:
    found_N = silhouettes(draw_features("random", 30, 6, 0), np.array([0] * 20 + [-1] * 10), SETTINGS)
    assert (found_N[:20] == 0).all() and np.isnan(found_N[20:]).all()


@pytest.mark.parametrize("normalized", [True, False])
def test_distances_to_the_own_centre(normalized: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distreid.labels.members.ROWS", 7)
    features_ND, labels_N = draw_features("random", 40, 6, 2), np.arange(40) % 4 - 1
    centers_KD = draw_features("random", 3, 6, 3)
    found_N = center_distances(features_ND, labels_N, centers_KD, normalized)
    for f_D, label, found in zip(features_ND, labels_N, found_N, strict=True):
        if label < 0:
            assert np.isnan(found)
        else:
            f_D = f_D / np.linalg.norm(f_D) if normalized else f_D
            assert found == pytest.approx(float(np.linalg.norm(f_D - centers_KD[label])), rel=1e-5)


def test_the_threshold_is_that_of_all_pairs() -> None:
    random = np.random.default_rng(0)
    labels_N = random.integers(-1, 8, 150)
    features_ND = (random.normal(size=(9, 16))[labels_N + 1] + 0.7 * random.normal(size=(150, 16))).astype(np.float32)
    found = calibrate(features_ND, labels_N, wrong=0.02)
    apart, within = [], []
    for i in range(150):
        for j in range(i + 1, 150):
            if labels_N[i] >= 0 and labels_N[j] >= 0:
                f, g = features_ND[i].astype(float), features_ND[j].astype(float)
                pairs = within if labels_N[i] == labels_N[j] else apart
                pairs.append(f @ g / np.linalg.norm(f) / np.linalg.norm(g))
    allowed = int(0.02 * len(apart))
    assert sum(pair > found.similarity + 1e-9 for pair in apart) == allowed
    assert sum(pair > found.similarity - 1e-9 for pair in apart) == allowed + 1, "the least such similarity"
    assert found.wrong == pytest.approx(allowed / len(apart))
    assert found.found == pytest.approx(np.mean(np.array(within) > found.similarity)) and 0 < found.found < 1
    assert (found.clusters, found.images) == (8, int((labels_N >= 0).sum()))


def test_the_threshold_of_many_images_is_learnt_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distreid.labels.threshold.IMAGES", 50)
    labels_N = np.repeat(np.arange(10), 20)
    found = calibrate(draw_features("random", 200, 8, 0), labels_N)
    assert found.images == 50 and found.clusters == 10


@pytest.mark.parametrize(("labels", "said"), [([-1] * 9, "0 clusters among 9"), ([0] * 5 + [-1] * 4, "1 cluster among 9")])
def test_a_threshold_needs_two_clusters(labels: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        calibrate(draw_features("random", 9, 4, 0), np.array(labels))

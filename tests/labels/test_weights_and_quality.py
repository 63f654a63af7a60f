"""Eq. 4 against its formula in a loop; the quality figures against scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, silhouette_samples

from distreid.common.errors import UserError
from distreid.labels import LabelSettings, PseudoLabels, make_pseudo_labels, reference, soft_weights
from distreid.labels.bench import bench_labels, clustered_features
from distreid.labels.quality import agreement
from tests.features import draw_features


def random_result(clusters: int, dim: int, normalized: bool) -> PseudoLabels:
    random = np.random.default_rng(0)
    return PseudoLabels(np.zeros(1, np.int64), random.standard_normal((clusters, dim), dtype=np.float32), 0.5, normalized)


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_soft_weights_are_equation_4(normalized, normalize) -> None:
    result = random_result(7, 5, normalized)
    random = np.random.default_rng(1)
    features_BD, labels_B = random.standard_normal((4, 5)).astype(np.float32), np.array([0, 6, 3, 3])
    weights_BK = result.soft_weights(features_BD, labels_B, epsilon=0.8, normalize=normalize)
    assert weights_BK.dtype == np.float32 and weights_BK.shape == (4, 7)
    for i in range(4):
        f_D = features_BD[i] / np.linalg.norm(features_BD[i]) if normalized else features_BD[i]
        row = [1 / (7 * ((f_D - c_D) ** 2).sum()) + (0.8 if k == labels_B[i] else 0) for k, c_D in enumerate(result.centers)]
        np.testing.assert_allclose(weights_BK[i], np.array(row) / (sum(row) if normalize else 1), rtol=1e-5)


def test_soft_weights_stay_finite_on_a_center() -> None:
    result = random_result(3, 5, False)
    weights_BK = result.soft_weights(result.centers[:1], np.array([0]))
    assert weights_BK[0, 0] == pytest.approx(0.9 + 1 / (3 * 1e-4))


def test_soft_weights_carry_no_gradient_and_refuse_outliers() -> None:
    features_BD = torch.ones(2, 5, requires_grad=True)
    centers_KD = torch.from_numpy(random_result(3, 5, True).centers)
    assert not soft_weights(features_BD, centers_KD, torch.tensor([0, 1])).requires_grad
    assert soft_weights(features_BD[:0], centers_KD, torch.empty(0, dtype=torch.int64)).shape == (0, 3)
    for wrong in ([-1, 0], [0, 3]):
        with pytest.raises(ValueError, match=r"labels in 0\.\.2"):
            soft_weights(features_BD, centers_KD, torch.tensor(wrong))


@pytest.mark.parametrize("kind", ["clustered", "half_copies"])
def test_silhouette_equals_the_dense_one(kind) -> None:
    features_ND = draw_features(kind, 300, 12, 4)
    result = make_pseudo_labels(features_ND, k1=10, k2=3, p=0.01)
    distances_NN = reference.jaccard(features_ND, 10, 3)
    np.fill_diagonal(distances_NN, 0)
    inside = result.labels >= 0
    assert result.num_clusters > 3 and not inside.all()
    expected = silhouette_samples(distances_NN[np.ix_(inside, inside)], result.labels[inside], metric="precomputed").mean()
    assert result.quality["silhouette"] == pytest.approx(expected, abs=1e-9)
    assert result.quality["outliers"] == (~inside).sum() and result.quality["clusters"] == result.num_clusters
    assert result.quality["largest_cluster"] == np.bincount(result.labels[inside]).max()


def test_agreement_equals_scikit_learn() -> None:
    random = np.random.default_rng(0)
    now_N = random.integers(-1, 5, 300)
    before_N = np.where(random.random(300) < 0.7, now_N, random.integers(-1, 8, 300))
    both = (now_N >= 0) & (before_N >= 0)
    found = agreement(now_N, before_N)
    assert found["adjusted_rand"] == pytest.approx(adjusted_rand_score(before_N[both], now_N[both]))
    assert found["clustered_in_both"] == pytest.approx(both.mean())
    assert agreement(now_N, np.full(300, -1)) == {"adjusted_rand": 0.0, "clustered_in_both": 0.0}
    features_ND = draw_features("clustered", 150, 12, 4)
    first = make_pseudo_labels(features_ND, p=0.01)
    again = make_pseudo_labels(features_ND, p=0.01, previous_labels=first.labels)
    assert again.quality["adjusted_rand"] == 1


def test_bench_stands_beside_the_dense_form() -> None:
    figures = bench_labels(300, 16, LabelSettings(k1=15, k2=4, p=0.01), oracle=True)
    assert figures["dense"]["labels_equal"] and figures["dense"]["largest_difference"] < 1e-6
    assert figures["clusters"] > 3 and figures["peak_bytes"] > 0 and set(figures["seconds"]) >= {"neighbours", "dbscan"}
    assert figures["pairs_per_point"] * 300 == figures["pairs"] and figures["microseconds_per_point_after_neighbours"] > 0
    assert len(np.unique(clustered_features(400, 16, 0, spread=0.0, images_per_identity=40), axis=0)) == 10
    with pytest.raises(UserError, match="at most 4000"):
        bench_labels(5000, 16, oracle=True)


def test_settings_need_neither_torch_nor_a_compiler() -> None:
    program = """
import sys
for name in ("torch", "numba", "scipy", "sklearn", "ray"):
    sys.modules[name] = None
import distreid.config
from distreid.labels import LabelSettings
assert distreid.config.Config().labels == LabelSettings()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_import_needs_no_compiler_and_a_missing_one_is_named() -> None:
    program = """
import sys
for name in ("numba", "sklearn", "ray", "pandas"):
    sys.modules[name] = None
import numpy, distreid.labels
from distreid.common.errors import UserError
try:
    distreid.labels.make_pseudo_labels(numpy.ones((50, 4), numpy.float32))
except UserError as error:
    assert "numba" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", program], check=True)

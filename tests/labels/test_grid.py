"""A grid of labellings: every cell equals the labelling made alone; the oracle against scikit-learn and a loop over pairs."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from distreid.common.errors import UserError
from distreid.labels import LabelSettings, make_pseudo_labels
from distreid.labels.grid import label_grid
from distreid.labels.ground_truth import score_clusters
from tests.features import draw_features

PS, LEAST = [2e-3, 1e-2, 3e-2], [1, 3, 6]


@pytest.mark.parametrize("kind", ["clustered", "half_copies", "one_crowd", "few_values"])
def test_every_cell_equals_the_labelling_alone(kind: str) -> None:
    features_ND = draw_features(kind, 260, 12, 7)
    pids_N = np.arange(260) % 20
    rows = list(label_grid(features_ND, PS, LEAST, LabelSettings(k1=12, k2=4), pids=pids_N))
    assert [(row["p"], row["min_samples"]) for row in rows] == [(p, least) for p in PS for least in LEAST]
    for row in rows:
        setting = {"p": row["p"], "min_samples": row["min_samples"], "k1": 12, "k2": 4}
        if "reason" in row:
            with pytest.raises(UserError) as caught:
                make_pseudo_labels(features_ND, **setting)
            assert str(caught.value) == row["reason"]
            continue
        alone = make_pseudo_labels(features_ND, **setting)
        assert row["eps"] == alone.eps
        assert {key: row[key] for key in alone.quality} == alone.quality
        assert row["quality"] == pytest.approx(row["silhouette"] * (alone.labels >= 0).mean())
        assert {key: row[key] for key in row if key.startswith("oracle")} == score_clusters(alone.labels, pids_N)


def test_a_p_that_cannot_be_served_is_a_row_with_its_reason() -> None:
    features_ND = draw_features("clustered", 200, 12, 7)
    rows = list(label_grid(features_ND, [1e-2, 0.9], [3, 4], LabelSettings(k1=10, k2=3)))
    assert [("reason" in row) for row in rows] == [False, False, True, True]
    assert "p asks for" in rows[2]["reason"]


def test_settings_and_identities_are_checked() -> None:
    features_ND = draw_features("clustered", 60, 12, 7)
    with pytest.raises(UserError, match=r"p=0\.0 must"):
        list(label_grid(features_ND, [1e-2, 0.0], [3], LabelSettings(k1=10, k2=3)))
    with pytest.raises(UserError, match="59 identities for 60 features"):
        list(label_grid(features_ND, [1e-2], [3], LabelSettings(k1=10, k2=3), pids=np.zeros(59, np.int64)))


def test_the_oracle_is_a_loop_over_pairs() -> None:
    random = np.random.default_rng(0)
    pids_N, labels_N = random.integers(-1, 6, 90), random.integers(-1, 8, 90)
    known = np.flatnonzero(pids_N >= 0)
    both = found = true = 0
    for i, j in combinations(known, 2):
        together, same = labels_N[i] == labels_N[j] >= 0, pids_N[i] == pids_N[j]
        both, found, true = both + (together and same), found + together, true + same
    alone_n = np.where(labels_N[known] < 0, 100 + np.arange(len(known)), labels_N[known])
    figures = score_clusters(labels_N, pids_N)
    assert figures["oracle_precision"] == both / found and figures["oracle_recall"] == both / true
    assert figures["oracle_f"] == pytest.approx(2 / (found / both + true / both))
    assert figures["oracle_ari"] == pytest.approx(adjusted_rand_score(pids_N[known], alone_n))
    assert figures["oracle_nmi"] == pytest.approx(normalized_mutual_info_score(pids_N[known], alone_n))
    assert score_clusters(labels_N, np.full(90, -1)) == {}
    assert score_clusters(pids_N.clip(0), pids_N.clip(0)) == pytest.approx(dict.fromkeys(figures, 1.0))


def test_camera_aware_cells_are_those_of_a_labelling() -> None:
    features_ND, camids_N = draw_features("clustered", 200, 12, 2), np.arange(200) % 3
    how = LabelSettings(k1_intra=3, k1_inter=9, k2_intra=2, k2_inter=3)
    for cell in label_grid(features_ND, [0.01, 0.03], [2, 4], how, camids=camids_N):
        alone = make_pseudo_labels(features_ND, how, p=cell["p"], min_samples=cell["min_samples"], camids=camids_N)
        assert (cell["eps"], cell["clusters"]) == (alone.eps, alone.num_clusters)

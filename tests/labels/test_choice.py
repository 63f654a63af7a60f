"""eps by the labels' quality: against labellings made one by one; what it is for."""

import numpy as np
import pytest

from distreid.common.errors import UserError
from distreid.labels import LabelSettings, PseudoLabels, make_pseudo_labels
from distreid.labels.choice import OTHERS
from distreid.labels.ground_truth import score_clusters
from tests.features import KINDS, draw_features


def quality(labels: PseudoLabels) -> float:
    return labels.quality["silhouette"] * float((labels.labels >= 0).mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [31, 240])
def test_it_is_the_best_of_what_is_tried(kind: str, count: int) -> None:
    features_ND, settings = draw_features(kind, count, 12, 7), LabelSettings(k1=12, k2=4, min_samples=3)
    alone = []
    for others in OTHERS:
        if others < count:
            try:
                alone.append(make_pseudo_labels(features_ND, settings, p=(others * count // 2) / (count * (count - 1) / 2)))
            except UserError as error:
                assert "pairs share neighbours" in str(error)
    best = max(alone, key=lambda labels: (quality(labels), -labels.eps))
    found = make_pseudo_labels(features_ND, LabelSettings(k1=12, k2=4, min_samples=3, eps="quality"))
    assert found.eps == best.eps and quality(found) == quality(best)
    np.testing.assert_array_equal(found.labels, best.labels)


@pytest.mark.parametrize("people", [10, 100])
def test_it_needs_no_guess_at_the_number_of_people(people: int) -> None:
    """Twelve pictures each: a p that is right for ten people is ten times too large for a hundred."""
    random = np.random.default_rng(people)
    pids_N = np.repeat(np.arange(people), 12)
    features_ND = (random.standard_normal((people, 32))[pids_N] + 0.6 * random.standard_normal((len(pids_N), 32))).astype(
        np.float32
    )
    by_quality = score_clusters(make_pseudo_labels(features_ND, LabelSettings(k1=15, eps="quality")).labels, pids_N)["oracle_f"]
    guesses = [score_clusters(make_pseudo_labels(features_ND, k1=15, p=p).labels, pids_N)["oracle_f"] for p in (0.01, 0.08)]
    assert by_quality > 0.95 and by_quality >= max(guesses) - 0.02 and by_quality > min(guesses) + 0.03


def test_an_eps_that_is_given_is_taken() -> None:
    features_ND = draw_features("clustered", 100, 12, 7)
    assert make_pseudo_labels(features_ND, LabelSettings(k1=12, k2=4, eps="quality")).eps != 0.31
    assert make_pseudo_labels(features_ND, LabelSettings(k1=12, k2=4, eps="quality"), eps=0.31).eps == 0.31


def test_features_of_which_hardly_any_pair_shares_a_neighbour() -> None:
    features_ND = draw_features("random", 60, 40, 0)
    with pytest.raises(UserError, match="hardly any pair of the 60 features shares a neighbour: use a larger k1"):
        make_pseudo_labels(features_ND, LabelSettings(k1=1, k2=1, eps="quality"))

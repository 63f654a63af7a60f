"""Which rows are copies of which: as the plainest comparison of all pairs says."""

import numpy as np
import pytest

from distreid.retrieval import distances as kernels
from distreid.retrieval.prepare import prepare
from tests.features import KINDS, draw_features


def first_equals(features_ND: np.ndarray, inverse_norms_N: np.ndarray) -> list[int]:
    unit_ND = features_ND.astype(np.float64) * inverse_norms_N[:, None]
    return [next(j for j in range(len(unit_ND)) if (unit_ND[j] == unit_ND[i]).all()) for i in range(len(unit_ND))]


@pytest.mark.parametrize("dim", [3, 8, 37])
@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_those_of_all_pairs(kind, dim) -> None:
    features_ND = draw_features(kind, 90, dim, 0)
    features_ND[40:50] = 4 * features_ND[10:20]
    features_ND[60, features_ND[60] == 0] = -0.0
    prepared = prepare(features_ND, 5, 2)
    first_N = prepared.first_U[prepared.group_N]
    assert first_N.tolist() == first_equals(features_ND, prepared.inverse_norms_N)
    assert len(prepared.first_U) <= 80


@pytest.mark.parametrize("kind", ["half_copies", "few_values"])
def test_rows_whose_hashes_collide_stay_apart(kind) -> None:
    features_ND = draw_features(kind, 90, 16, 1)
    prepared = prepare(features_ND, 5, 1)
    first_N, hashes_N = np.arange(90), np.zeros(90, np.uint64)
    kernels.first_copies(features_ND, prepared.inverse_norms_N, hashes_N, np.arange(90), first_N)
    assert first_N.tolist() == first_equals(features_ND, prepared.inverse_norms_N)
    assert 5 < len(np.unique(first_N)) < 90


def test_a_hash_hears_every_number_and_its_place() -> None:
    row_D = np.arange(1, 20, dtype=np.float32)
    rows_ND = np.stack([row_D] + [np.where(np.arange(19) == d, 0, row_D).astype(np.float32) for d in range(19)] + [row_D[::-1]])
    hashes_N = np.empty(len(rows_ND), np.uint64)
    kernels.row_hashes(rows_ND, np.ones(len(rows_ND)), 0, len(rows_ND), hashes_N)
    assert len(np.unique(hashes_N)) == len(rows_ND)

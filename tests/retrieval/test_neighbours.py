"""The neighbour search gives the same bits for every precision, block size and number of threads, and those of a dense sort."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from distreid.common.machine import Machine
from distreid.labels import reference
from distreid.labels.torch_engine import TorchStages
from distreid.retrieval import neighbours
from distreid.retrieval.neighbours import LowPrecision, nearest, round_features
from distreid.retrieval.prepare import Prepared, prepare
from tests.features import draw_features


def expected_neighbours(features_ND, k):
    return np.argsort(reference.squared_distances(features_ND), axis=1, kind="stable")[:, :k]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "clustered", "half_copies", "few_values", "one_crowd"])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_equals_a_dense_sort_in_any_blocks(kind, precision) -> None:
    features_ND = draw_features(kind, 400, 24, 7)
    prepared = prepare(features_ND, 30, 1)
    expected_Nk = expected_neighbours(features_ND, 30)
    reference = None
    for threads, rows, columns in [(1, 1024, 16384), (2, 100, 150), (3, 37, 64), (1, 7, 400), (1, 130, 50)]:
        found = nearest(prepared, 30, precision=precision, threads=threads, block_rows=rows, block_columns=columns)
        np.testing.assert_array_equal(found[0][prepared.group_N], expected_Nk)
        reference = reference or found
        assert found[1].tobytes() == reference[1].tobytes()


@pytest.mark.parametrize("spread", [1e-3, 1e-5])
def test_crowds_too_near_for_low_precision_are_ranked_exactly(spread) -> None:
    """Everything within a bfloat16 rounding error of everything else: lists overflow and must be resolved in float64."""
    random = np.random.default_rng(0)
    features_ND = (1 + spread * random.standard_normal((900, 32))).astype(np.float32)
    features_ND[::7] += 1  # keeps the mean away from the crowd
    features_ND[::50, 0] -= 3
    prepared = prepare(features_ND, 20, 1)
    for precision in ("bfloat16", "float32"):
        found_Nk, _ = nearest(prepared, 20, precision=precision, threads=2, block_rows=200, block_columns=300)
        np.testing.assert_array_equal(found_Nk[prepared.group_N], expected_neighbours(features_ND, 20))


def test_ties_between_different_rows_go_by_index() -> None:
    """Unit vectors along the axes: all distances are exactly equal, and more of them than a list holds."""
    prepared = prepare(np.eye(600, dtype=np.float32)[::-1], 8, 1)
    expected_Nk = [[i, *[j for j in range(8) if j != i][:7]] for i in range(600)]
    for precision in ("bfloat16", "float32"):
        found_Nk, squared_Nk = nearest(prepared, 8, precision=precision, block_rows=90, block_columns=200)
        np.testing.assert_array_equal(found_Nk, expected_Nk)
        assert (squared_Nk[:, 1:] == 2).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(50, 3), (600, 200), (1500, 65)])
def test_the_error_bound_holds(dtype, shape) -> None:
    features_ND = draw_features("clustered", *shape, 1) + 1
    prepared = prepare(features_ND, 3, 1)
    low = round_features(prepared, dtype)
    half_NN = torch.mm(low.left(slice(None)), low.a_UW.T).double().numpy()
    true_NN = np.sqrt(reference.squared_distances(features_ND))
    upper_NN = ((true_NN + low.slack_U[:, None]) ** 2 / 2 + low.noise_U[:, None]) * (1 + low.rounding)
    nearer_NN = np.maximum(true_NN - low.slack_U[:, None], 0)
    lower_NN = nearer_NN**2 / 2 * (1 - low.rounding) - 2 * low.noise_U[:, None]
    assert (half_NN <= upper_NN).all() and (half_NN >= lower_NN).all()


def test_a_training_loop_that_allows_coarse_float32_changes_nothing() -> None:
    features_ND = draw_features("clustered", 300, 64, 2)
    prepared = prepare(features_ND, 10, 1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found_Nk, _ = nearest(prepared, 10, precision="float32")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(found_Nk, expected_neighbours(features_ND, 10))


@pytest.mark.parametrize(("limit", "dtype"), [("", torch.bfloat16), ("AVX2", torch.float32), ("AVX512_CORE", torch.float32)])
def test_auto_takes_bfloat16_where_onednn_may_use_it(limit: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def watched(prepared: Prepared, dtype: torch.dtype) -> LowPrecision:
        taken.append(dtype)
        return round_features(prepared, dtype)

    machine = Machine("x86_64", 2, ("avx2", "avx512f", "avx512_bf16"), limit, onednn_bf16=True)
    monkeypatch.setattr(neighbours, "look", lambda: machine)
    monkeypatch.setattr(neighbours, "round_features", watched)
    nearest(prepare(draw_features("random", 50, 8, 0), 5, 1), 5)
    assert taken == [dtype]


@pytest.mark.parametrize("kind", ["clustered", "half_copies"])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_parts_make_the_whole(kind, precision) -> None:
    prepared = prepare(draw_features(kind, 400, 24, 7), 30, 1)
    whole = nearest(prepared, 30)
    cuts = [0, 1, 90, 177, len(prepared.first_U)]
    parts = [
        nearest(prepared, 30, groups=part, precision=precision, threads=2, block_rows=50, block_columns=70)
        for part in pairwise(cuts)
    ]
    for at in (0, 1):
        assert np.concatenate([part[at] for part in parts]).tobytes() == whole[at].tobytes()


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_points_that_are_kept_apart(precision) -> None:
    """Neighbours of other cameras only; a camera that holds all but five points leaves its own with five."""
    features_ND = draw_features("clustered", 300, 24, 7)
    features_ND[150:160] = features_ND[:10]
    for camids_N in (np.arange(300) % 5, np.where(np.arange(300) % 60 == 0, 1, 0)):
        prepared = prepare(features_ND, 1, 1, camids_N)
        squared_NN = reference.squared_distances(features_ND)
        squared_NN[camids_N[:, None] == camids_N] = np.inf
        expected_Nk = np.argsort(squared_NN, axis=1, kind="stable")[:, :12]
        expected_Nk[np.take_along_axis(squared_NN, expected_Nk, 1) == np.inf] = -1
        apart_U = camids_N[prepared.first_U]
        for ours in (
            nearest(prepared, 12, apart_U=apart_U, precision=precision, threads=2, block_rows=64, block_columns=90),
            TorchStages(torch.device("cpu")).search(prepared, 12, apart_U=apart_U),
        ):
            np.testing.assert_array_equal(ours[0][prepared.group_N], expected_Nk)
            assert ((ours[0] == -1) == np.isinf(ours[1])).all()

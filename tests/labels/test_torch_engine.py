"""The device engine against the compiled one: the same code on torch's CPU device here, on CUDA where there is one."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distreid.common.errors import UserError
from distreid.labels import PseudoLabels, make_pseudo_labels
from distreid.labels.cpu.stages import CpuStages
from distreid.labels.stages import nearest_pairs
from distreid.labels.torch_engine import TorchStages, pairs
from distreid.labels.torch_engine import neighbours as device_neighbours
from distreid.labels.torch_engine.tensors import Features, squared_distances
from distreid.retrieval.lists import plain_lists
from distreid.retrieval.neighbours import nearest
from distreid.retrieval.prepare import prepare
from tests.features import KINDS, draw_features

CPU = torch.device("cpu")


@pytest.fixture(
    params=[
        "cpu",
        pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]),
    ]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def label_on(device: torch.device, features_ND: np.ndarray, **how: Any) -> PseudoLabels:
    return make_pseudo_labels(features_ND, stages=TorchStages(device), threads=1, **how)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(30, 150),
    dim=st.integers(2, 70),
    k1=st.integers(1, 25),
    k2_share=st.floats(0, 1),
    p=st.sampled_from([2e-3, 1e-2, 3e-2]),
    min_samples=st.integers(1, 6),
    cameras=st.sampled_from([0, 0, 2, 7]),
    seed=st.integers(0, 10_000),
)
def test_gives_what_the_compiled_engine_gives(kind, count, dim, k1, k2_share, p, min_samples, cameras, seed) -> None:
    features_ND = draw_features(kind, count, dim, seed)
    how = {"k1": k1, "k2": max(1, round(k2_share * k1)), "p": p, "min_samples": min_samples}
    if cameras:
        how["camids"] = np.arange(count) % cameras
    try:
        expected = make_pseudo_labels(features_ND, **how)
    except UserError as error:
        with pytest.raises(UserError) as caught:
            label_on(CPU, features_ND, **how)
        assert str(caught.value) == str(error)
        return
    found = label_on(CPU, features_ND, **how)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.centers, expected.centers)
    assert found.eps == pytest.approx(expected.eps, abs=1e-12)
    assert found.quality == pytest.approx(expected.quality, abs=1e-9)
    assert found.stats["pairs"] == expected.stats["pairs"]


@pytest.mark.slow
def test_a_larger_set_gives_equal_neighbours_distances_and_labels(device: torch.device) -> None:
    features_ND = draw_features("clustered", 3000, 96, 2)
    features_ND[2000:2200] = features_ND[:200]
    prepared = prepare(features_ND, 30, 1)
    compiled, ours = CpuStages(1), TorchStages(device)
    lists = plain_lists(prepared, 30, 6, compiled.search)
    found = ours.search(prepared, 30)
    np.testing.assert_array_equal(found[0], lists.neighbours_Uk)
    assert found[1].tobytes() == lists.squared_Uk.tobytes()
    expected, near = (
        nearest_pairs(engine, engine.expand(engine.reciprocal(prepared, lists), prepared, lists), prepared.sizes, 20_000)
        for engine in (compiled, ours)
    )
    assert (near.held, near.total, near.near) == (expected.held, expected.total, expected.near)
    rows = np.repeat(np.arange(len(prepared.first_U)), np.diff(expected.graph.indptr))
    order = np.lexsort((expected.graph.indices, rows))
    np.testing.assert_array_equal(near.w_E.cpu().numpy(), expected.graph.indices[order])
    np.testing.assert_allclose(near.distance_E.cpu().numpy(), expected.graph.data[order], atol=1e-12)
    labels = label_on(device, features_ND, p=6e-3)
    np.testing.assert_array_equal(labels.labels, make_pseudo_labels(features_ND, p=6e-3).labels)
    assert labels.num_clusters > 100 and (labels.labels < 0).any()


def test_repeats_bit_for_bit(device: torch.device) -> None:
    features_ND = draw_features("clustered", 900, 32, 2)
    one, two = (label_on(device, features_ND) for _ in range(2))
    assert one.eps == two.eps and one.quality == two.quality and one.labels.tobytes() == two.labels.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 31, 32, 100])
def test_distances_are_those_of_the_compiled_engine_bit_for_bit(dim, dtype, device: torch.device) -> None:
    features_ND = draw_features("clustered", 60, dim, 0).astype(dtype)
    prepared = prepare(features_ND, 3, 1)
    rows_Uk, squared_Uk = nearest(prepared, len(prepared.first_U))
    i = torch.arange(len(rows_Uk)).repeat_interleave(rows_Uk.shape[1])
    at = prepared.first_U[i.numpy()]
    found = squared_distances(
        Features.of(prepared, device), torch.from_numpy(at).to(device), torch.from_numpy(rows_Uk.ravel()).long().to(device)
    )
    assert found.cpu().numpy().tobytes() == squared_Uk.ravel().tobytes()


@pytest.mark.parametrize("spread", [1e-3, 1e-6])
def test_crowds_too_near_for_float32_are_ranked_exactly(spread, monkeypatch) -> None:
    random = np.random.default_rng(0)
    features_ND = (1 + spread * random.standard_normal((700, 32))).astype(np.float32)
    features_ND[::7] += 1
    prepared = prepare(features_ND, 20, 1)
    asked: list[int] = []
    candidates = device_neighbours._candidates
    monkeypatch.setattr(device_neighbours, "_candidates", lambda *a: asked.append(a[5]) or candidates(*a))
    found = device_neighbours.nearest(prepared, Features.of(prepared, CPU), 20, tile=(170, 300))
    expected = nearest(prepared, 20)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1].tobytes() == expected[1].tobytes()
    assert (max(asked) > min(asked)) == (spread < 1e-4), "more candidates are asked for exactly when the first ones do not suffice"


def test_some_rows_only() -> None:
    prepared = prepare(draw_features("half_copies", 300, 16, 0), 10, 1)
    wanted = np.array([7, 3, 100])
    found = device_neighbours.nearest(prepared, Features.of(prepared, CPU), 10, queries_Q=wanted)
    np.testing.assert_array_equal(found[0], nearest(prepared, 10)[0][wanted])


def test_small_chunks_change_nothing(monkeypatch) -> None:
    features_ND = draw_features("clustered", 200, 16, 1)
    expected = label_on(CPU, features_ND, p=0.01)
    monkeypatch.setattr(pairs, "CHUNK", 50)
    found = label_on(CPU, features_ND, p=0.01)
    assert found.eps == expected.eps and found.quality["silhouette"] == pytest.approx(expected.quality["silhouette"])
    np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_no_gpu_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="device = cuda: torch sees no CUDA device on this machine; use cpu"):
        make_pseudo_labels(draw_features("random", 50, 4, 0), device="cuda")

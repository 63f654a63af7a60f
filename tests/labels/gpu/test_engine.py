"""Labels, centres and every array of the GPU's engine against the compiled one: equal bits, in whatever order the threads run."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN

from distreid.common.errors import UserError
from distreid.labels import jaccard_graph, make_pseudo_labels, reference
from distreid.labels.cpu.stages import CpuStages
from distreid.labels.gpu import stages as gpu_stages
from distreid.retrieval.lists import Lists, camera_lists, plain_lists
from distreid.retrieval.prepare import Prepared, prepare
from tests.features import KINDS, draw_features
from tests.labels.gpu.shim import few_blocks, needs_compiler, shim_stages

pytestmark = needs_compiler
# Orders of threads: ascending, descending, random with several blocks at once.
ORDERS: list[dict[str, Any]] = [
    {"seed": 0, "resident": 1, "threads": 32},
    {"seed": 1, "resident": 2, "threads": 64},
    {"seed": 2, "resident": 5, "threads": 96, "guard": True},
]


def rows_of(weights: Any) -> list[bytes]:
    return [np.asarray(array).tobytes() for array in weights]


@pytest.mark.slow
@pytest.mark.parametrize("cameras", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"order{order['seed']}")
def test_labels_centers_and_figures(kind, cameras, order) -> None:
    count, seed = 70 + 11 * order["seed"], order["seed"]
    features_ND = draw_features(kind, count, 19 + 20 * seed, seed)
    how: dict[str, Any] = {"k1": 6 + 3 * seed, "k2": 1 + seed, "p": 2e-2, "min_samples": 2 + seed, "threads": 1}
    if cameras:
        how["camids"] = np.arange(count) % cameras
    stages = shim_stages(**order, free=few_blocks(5, count))
    try:
        expected = make_pseudo_labels(features_ND, **how, stages=CpuStages(1))
    except UserError as error:
        with pytest.raises(UserError) as caught:
            make_pseudo_labels(features_ND, **how, stages=stages)
        assert str(caught.value) == str(error)
        return
    found = make_pseudo_labels(features_ND, **how, stages=stages)
    assert found.labels.tobytes() == expected.labels.tobytes() and found.eps == expected.eps
    assert found.centers.tobytes() == expected.centers.tobytes()
    assert found.quality == expected.quality
    assert (found.stats["pairs"], found.stats["pairs_held"]) == (expected.stats["pairs"], expected.stats["pairs_held"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_real_gpu(kind) -> None:
    """Not yet run: no GPU was to be had."""
    pytest.importorskip("cupy", reason="no CuPy")
    features_ND, how = draw_features(kind, 3000, 96, 2), {"p": 6e-3, "dbscan": "auto"}
    try:
        expected = make_pseudo_labels(features_ND, device="cpu", **how)
    except UserError as error:
        with pytest.raises(UserError, match=re.escape(str(error))):
            make_pseudo_labels(features_ND, device="cuda", **how)
        return
    found = make_pseudo_labels(features_ND, device="cuda", **how)
    assert found.labels.tobytes() == expected.labels.tobytes() and found.eps == expected.eps
    assert found.centers.tobytes() == expected.centers.tobytes() and found.quality == expected.quality


def lists_for(prepared: Prepared, cameras: int, engine: Any) -> Lists:
    if cameras:
        return camera_lists(prepared, np.arange(len(prepared.group_N)) % cameras, (4, 9), (2, 3), engine.search)
    return plain_lists(prepared, 12, 4, engine.search)


@pytest.mark.parametrize("cameras", [0, 5])  # 5: copies are of one camera
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_array(dtype, cameras) -> None:
    count = 110
    features_ND = draw_features("half_copies", count, 37, 1).astype(dtype)
    prepared = prepare(features_ND, 12, 1, np.arange(count) % cameras if cameras else None)
    compiled, ours = CpuStages(1), shim_stages(seed=3, resident=3, threads=64, guard=True, free=few_blocks(7, count))
    lists, ours_lists = lists_for(prepared, cameras, compiled), lists_for(prepared, cameras, ours)
    for name in ("neighbours_Uk", "squared_Uk", "expansion_Uq"):
        assert getattr(lists, name).tobytes() == getattr(ours_lists, name).tobytes(), name
    v, ours_v = compiled.reciprocal(prepared, lists), ours.reciprocal(prepared, lists)
    assert rows_of((v.indptr, v.indices, v.data)) == rows_of((ours_v.offsets, ours_v.columns, ours_v.values))
    weights, ours_weights = compiled.expand(v, prepared, lists), ours.expand(ours_v, prepared, lists)
    assert rows_of(weights.v) == rows_of(ours_weights.v)
    sizes_U = prepared.sizes
    sampled, ours_sampled = ([*engine.sample_distances(w, 5)] for engine, w in ((compiled, weights), (ours, ours_weights)))
    assert len(sampled[0]) > 20 and rows_of(sampled) == rows_of(ours_sampled)
    near, ours_near = compiled.pairs_within(weights, 0.6), ours.pairs_within(ours_weights, 0.6)
    assert 0 < near.held < near.total and (near.total, near.near, near.held) == (ours_near.total, ours_near.near, ours_near.held)
    nearest, ours_nearest = compiled.smallest(near, sizes_U, 60), ours.smallest(ours_near, sizes_U, 60)
    assert np.sort(nearest[0])[:60].tobytes() == ours_nearest[0].tobytes()
    assert nearest[1][np.argsort(nearest[0], kind="stable")[:60]].tobytes() == ours_nearest[1].tobytes()
    for pairs, ours_pairs in ((near, ours_near), (near.within(near.cutoff / 2), ours_near.within(near.cutoff / 2))):
        graph, ours_graph = pairs.graph, ours_pairs.graph
        assert rows_of((graph.indptr, graph.indices, graph.data)) == rows_of(
            (ours_graph.indptr, ours_graph.indices, ours_graph.data)
        )
    labels_U = compiled.dbscan(near, sizes_U, near.cutoff / 2, 2)
    assert labels_U.max() > 3 and ours.dbscan(ours_near, sizes_U, near.cutoff / 2, 2).tobytes() == labels_U.tobytes()
    chosen_S = np.flatnonzero(labels_U >= 0)
    sizes_K = np.bincount(labels_U[chosen_S], weights=sizes_U[chosen_S]).astype(np.int64)
    figures = compiled.silhouettes(weights, chosen_S, labels_U, sizes_K)
    assert (
        len(np.unique(figures)) > 10 and ours.silhouettes(ours_weights, chosen_S, labels_U, sizes_K).tobytes() == figures.tobytes()
    )
    for normalized in (True, False):
        labels_N = labels_U[prepared.group_N]
        expected_KD = compiled.centers(prepared, labels_N, normalized)
        assert ours.centers(prepared, labels_N, normalized).tobytes() == expected_KD.tobytes()


def test_the_dense_form_and_scikit_learn() -> None:
    features_ND = draw_features("clustered", 260, 32, 4)
    expected_NN = reference.jaccard(features_ND, 20, 6)
    found = make_pseudo_labels(features_ND, k1=20, k2=6, p=6e-3, stages=shim_stages(seed=2, resident=4), threads=1)
    assert found.eps == pytest.approx(reference.eps(expected_NN, 6e-3), abs=1e-9)
    labels_N = DBSCAN(eps=found.eps, min_samples=4, metric="precomputed").fit_predict(expected_NN)
    assert labels_N.max() > 3 and (labels_N < 0).any()
    np.testing.assert_array_equal(found.labels, labels_N)


@pytest.mark.slow
def test_long_lists() -> None:
    """No kernel keeps lists in shared memory, which for k1 of 107 would have been too small."""
    features_ND, how = draw_features("clustered", 130, 8, 0), {"k1": 120, "k2": 40, "p": 0.05, "threads": 1}
    expected, found = (make_pseudo_labels(features_ND, **how, stages=engine) for engine in (CpuStages(1), shim_stages()))
    assert found.eps == expected.eps and found.labels.tobytes() == expected.labels.tobytes()


@pytest.mark.parametrize("spread", [1e-3, 1e-6])
def test_crowds_too_near_for_float32_are_ranked_exactly(spread) -> None:
    random = np.random.default_rng(0)
    features_ND = (1 + spread * random.standard_normal((150, 32))).astype(np.float32)
    features_ND[::7] += 1
    prepared = prepare(features_ND, 10, 1)
    expected, found = (engine.search(prepared, 10) for engine in (CpuStages(1), shim_stages()))
    assert found[0].tobytes() == expected[0].tobytes() and found[1].tobytes() == expected[1].tobytes()


def test_a_sample_in_pieces_is_the_same(monkeypatch) -> None:
    prepared = prepare(draw_features("clustered", 100, 16, 1), 10, 1)
    ours = shim_stages()
    lists = plain_lists(prepared, 10, 3, ours.search)
    weights = ours.expand(ours.reciprocal(prepared, lists), prepared, lists)
    whole = list(ours.sample_distances(weights, 3))
    monkeypatch.setattr(gpu_stages, "PIECE", 40)
    pieces = list(ours.sample_distances(weights, 3))
    assert len(whole) == 1 and len(pieces) > 3
    assert np.concatenate(pieces).tobytes() == whole[0].tobytes()


def test_collapsed_features_are_counted_before_their_pairs_are_held(monkeypatch) -> None:
    from distreid.retrieval import jaccard

    monkeypatch.setattr(jaccard, "MAX_PAIRS_PER_POINT", 2)
    with pytest.raises(UserError, match="more than 140 pairs of 70 points share neighbours"):
        make_pseudo_labels(draw_features("random", 70, 8, 0), k1=20, k2=6, p=0.5, threads=1, stages=shim_stages())


@pytest.mark.parametrize("kind", ["clustered", "half_copies", "few_values"])
def test_the_graph_of_all_pairs(kind, monkeypatch) -> None:
    from distreid.labels import engines

    features_ND = draw_features(kind, 90, 16, 0)
    expected = jaccard_graph(features_ND, 10, 3, device="cpu")
    ours = shim_stages()
    monkeypatch.setattr(engines, "stages_of", lambda *_, **__: ours)
    found = jaccard_graph(features_ND, 10, 3, device="cpu")
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert ours.backend.released == 1, "what the engine kept is given back"

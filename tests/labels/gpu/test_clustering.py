"""DBSCAN of the GPU's engine on graphs: the union-find in many orders of threads, and cuML's part by a model of cuML."""

import logging
import re
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import DBSCAN

from distreid.common.errors import UserError
from distreid.labels.gpu import Clustering
from tests.labels.gpu import cuml_model
from tests.labels.gpu.graphs import dense_of, first_components, pairs_of, random_graph, random_tree
from tests.labels.gpu.shim import needs_compiler, shim_stages

pytestmark = needs_compiler


def batched(rows: int | None) -> type:
    return type("DBSCAN", (cuml_model.DBSCAN,), {"rows_per_batch": rows})


def test_random_graphs_as_scikit_learn() -> None:
    """Also by a model of cuML in one and in many batches; cuML alone would round eps."""
    random, rounded = np.random.default_rng(0), 0
    for trial in range(60):
        points, least = int(random.integers(5, 90)), int(random.integers(1, 7))
        graph = random_graph(random, points, random.uniform(0.01, 0.15))
        sizes_U = random.integers(1, 4, points) if trial % 2 else np.ones(points, np.int64)
        # Every third time a pair lies at eps exactly, which float32 would round up or down.
        eps = float(graph[2][0]) if trial % 3 == 0 and len(graph[2]) else float(random.random())
        dense_UU = dense_of(points, graph)
        expected_U = DBSCAN(eps=eps, min_samples=least, metric="precomputed").fit(dense_UU, sample_weight=sizes_U).labels_
        engines = [shim_stages(seed=seed, resident=4) for seed in (0, 1, 2)]
        engines += [shim_stages(Clustering("cuml", 1 << 30, batched(rows))) for rows in (None, 1, 7)]
        for stages in engines:
            found_U = stages.dbscan(pairs_of(stages.backend, points, graph), sizes_U, eps, least)
            np.testing.assert_array_equal(found_U, expected_U)
        plain = batched(None)(eps=eps, min_samples=least, metric="precomputed").fit_predict(dense_UU, sample_weight=sizes_U)
        rounded += not np.array_equal(plain, expected_U)
    assert rounded, "the data holds what cuML alone gets wrong"


def test_border_points_that_cuml_gives_to_other_clusters() -> None:
    """In batches of 7 rows: rare, so only graphs on which it happens are labelled."""
    random, differ = np.random.default_rng(0), 0
    for _ in range(300):
        points, least = int(random.integers(5, 90)), int(random.integers(1, 7))
        graph, eps = random_graph(random, points, random.uniform(0.01, 0.15)), float(random.random())
        dense_UU, ones_U = dense_of(points, graph), np.ones(points, np.int64)
        expected_U = DBSCAN(eps=eps, min_samples=least, metric="precomputed").fit_predict(dense_UU)
        model = batched(7)(eps=0.5, min_samples=least, metric="precomputed")
        if np.array_equal(model.fit_predict((dense_UU > eps).astype(np.float32)), expected_U):
            continue
        differ += 1
        stages = shim_stages(Clustering("cuml", 1 << 30, batched(7)))
        np.testing.assert_array_equal(stages.dbscan(pairs_of(stages.backend, points, graph), ones_U, eps, least), expected_U)
    assert differ


def test_trees_in_many_orders_of_threads() -> None:
    random = np.random.default_rng(1)
    for seed in range(2, 12):
        graph = random_tree(random, 160)
        stages = shim_stages(seed=seed, resident=16)
        found_U = stages.dbscan(pairs_of(stages.backend, 160, graph), np.ones(160, np.int64), 0.5, 1)
        np.testing.assert_array_equal(found_U, first_components(160, graph))


def test_no_pairs_and_no_cores() -> None:
    stages = shim_stages()
    none = pairs_of(stages.backend, 5, random_graph(np.random.default_rng(0), 5, 0.0))
    assert stages.dbscan(none, np.ones(5, np.int64), 0.5, 2).tolist() == [-1] * 5
    assert stages.dbscan(none, np.array([1, 2, 1, 3, 1]), 0.5, 2).tolist() == [-1, 0, -1, 1, -1]


GRAPH = random_graph(np.random.default_rng(3), 40, 0.1)
SIZES = np.ones(40, np.int64)


def label(clustering: Clustering, **how: Any) -> list[int]:
    stages = shim_stages(clustering, **how)
    return stages.dbscan(pairs_of(stages.backend, 40, GRAPH), SIZES, 0.5, 2).tolist()


class Counted(cuml_model.DBSCAN):
    calls = 0

    def fit_predict(self, *args: Any, **kwargs: Any) -> np.ndarray:
        Counted.calls += 1
        return super().fit_predict(*args, **kwargs)


@pytest.mark.parametrize(("dense_bytes", "free", "used"), [(0, 4 * 8000, 1), (0, 4 * 7999, 0), (8000, 0, 1), (7999, 1 << 40, 0)])
def test_cuml_is_taken_where_its_matrix_fits(dense_bytes, free, used) -> None:
    """40 points: 5 · 40² = 8,000 bytes; by default a quarter of what is free."""
    expected = label(Clustering())
    Counted.calls = 0
    assert label(Clustering("auto", dense_bytes, Counted), free=free) == expected and Counted.calls == used
    Counted.calls = 0
    if used:
        assert label(Clustering("cuml", dense_bytes, Counted), free=free) == expected and Counted.calls == 1
    else:
        with pytest.raises(UserError, match=r"labels\.dbscan=cuml needs 0\.0 GB for 40 distinct features.*set labels\.dense_gb"):
            label(Clustering("cuml", dense_bytes, Counted), free=free)
    assert label(Clustering("graph", 1 << 30, Counted)) == expected


def failing(error: Exception) -> type:
    class Failing(cuml_model.DBSCAN):
        def fit_predict(self, *args: Any, **kwargs: Any) -> np.ndarray:
            raise error

    return Failing


class Parting(cuml_model.DBSCAN):
    """A cuML that loses a union: each point its own cluster."""

    def fit_predict(self, X: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        return np.arange(len(X), dtype=np.int32)


class Losing(cuml_model.DBSCAN):
    """A cuML that takes core points for outliers."""

    def fit_predict(self, X: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        return np.full(len(X), -1, np.int32)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (failing(MemoryError("std::bad_alloc: out_of_memory\nmore")), r"\(std::bad_alloc: out_of_memory\)"),
        (failing(RuntimeError("no kernel image")), r"\(no kernel image\)"),
        (Parting, "part neighbours"),
        (Losing, "part neighbours"),
    ],
)
def test_a_failing_cuml_gives_the_same_labels_and_a_line(model, reason, caplog) -> None:
    clustering = Clustering("auto", 1 << 30, model)
    with caplog.at_level(logging.WARNING, logger="distreid"):
        assert label(clustering) == label(Clustering())
        assert label(clustering) == label(Clustering())
    assert len(caplog.records) == 1, "said once; the engine does not ask again"
    assert re.search(reason, caplog.records[0].getMessage())


def test_where_cuml_is_demanded_its_lack_of_memory_is_an_error() -> None:
    with pytest.raises(MemoryError):
        label(Clustering("cuml", 1 << 30, failing(MemoryError("out of memory"))))

"""Re-ranking by the GPU's kernels: every array and every rank has the compiled code's bits, in whatever order threads run."""

import logging
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from distreid.evaluation import rerank_gpu, reranked_hits
from distreid.evaluation.check import stage_arrays
from distreid.evaluation.rerank_gpu import KernelStages
from distreid.evaluation.rerank_stages import CompiledStages
from distreid.retrieval.gpu import choice
from tests.evaluation.reranking import KINDS, sides, unit
from tests.labels.gpu.shim import NumpyBackend, few_blocks, needs_compiler

ORDERS: list[dict[str, Any]] = [
    {"seed": 0, "resident": 1, "threads": 32},
    {"seed": 1, "resident": 2, "threads": 64, "free": few_blocks(3, 90)},
    {"seed": 2, "resident": 5, "threads": 96, "guard": True},
]


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"order{order['seed']}")
def test_every_array(kind, order, monkeypatch) -> None:
    seed = order["seed"]
    monkeypatch.setattr(rerank_gpu, "PIECE", 300)  # rows that are ranked whole go in several pieces
    unit_ND, pairs = unit(*sides(kind, seed, dim=(24, 37, 5)[seed]))
    how = ((9, 4, 0.3), (5, 1, 0.0), (12, 13, 0.9))[seed]
    expected = dict(stage_arrays(CompiledStages(unit_ND), *how, pairs))
    found = dict(stage_arrays(KernelStages(unit_ND, NumpyBackend(**order)), *how, pairs))
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes(), name
    assert len(expected["ranks"]) > 50 and len(np.unique(expected["V: data"])) > 20
    assert np.median(np.diff(expected["expanded V: indptr"])) > 3


@needs_compiler
def test_the_ranks_of_an_engine_that_is_handed_in() -> None:
    query, gallery = sides("copied", 3)
    found = reranked_hits(query, gallery, k1=7, k2=3, engine=partial(KernelStages, backend=NumpyBackend(seed=3, threads=64)))
    np.testing.assert_array_equal(found.ranks, reranked_hits(query, gallery, k1=7, k2=3).ranks)


class Full(NumpyBackend):
    """A device without memory."""

    def kernels(self, dtype: Any) -> Any:
        raise MemoryError("out of memory\nand more")


def test_a_gpu_without_memory_leaves_it_to_the_cpu(monkeypatch, caplog) -> None:
    full, (query, gallery) = Full(), sides("clustered", 4)
    monkeypatch.setattr(choice, "find_backend", lambda device: (full, ""))
    with caplog.at_level(logging.WARNING, logger="distreid"):
        found = reranked_hits(query, gallery, device="cuda")
    assert [record.getMessage() for record in caplog.records] == [
        "too little memory on the GPU to re-rank (out of memory): this time the CPU does it, slower and the same"
    ]
    assert full.released == 1
    np.testing.assert_array_equal(found.ranks, reranked_hits(query, gallery).ranks)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_real_gpu(kind) -> None:
    """Not yet run: no GPU was to be had."""
    pytest.importorskip("cupy", reason="no CuPy")
    backend, reason = choice.find_backend(torch.device("cuda"))
    assert backend is not None, reason
    unit_ND, pairs = unit(*sides(kind, 5, dim=200, images=1500))
    expected = dict(stage_arrays(CompiledStages(unit_ND), 20, 6, 0.3, pairs))
    for name, array in stage_arrays(KernelStages(unit_ND, backend), 20, 6, 0.3, pairs):
        assert array.tobytes() == expected[name].tobytes(), name

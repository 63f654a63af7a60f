"""Every call of `xp` binds to CuPy's signature, and every method of an array is one of CuPy's: numpy, behind which the engine is
tested, takes arguments that CuPy does not."""

import ast
import inspect
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distreid.labels.gpu
import distreid.retrieval.gpu
from distreid.evaluation import rerank_gpu, reranked_hits
from distreid.labels import make_pseudo_labels
from distreid.labels.gpu import Clustering
from tests.evaluation.reranking import sides
from tests.features import draw_features
from tests.labels.gpu.cuml_model import DBSCAN
from tests.labels.gpu.cupy_signatures import FUNCTIONS, TABLE, written
from tests.labels.gpu.shim import NumpyBackend, needs_compiler, shim_stages

CUPY = json.loads(TABLE.read_text(encoding="utf-8"))
SOURCES = [file for room in (distreid.labels.gpu, distreid.retrieval.gpu) for file in Path(room.__file__).parent.glob("*.py")]
SOURCES.append(Path(rerank_gpu.__file__))
# What an array must not be asked for: CuPy's sorts whole rows, adds floats in any order, or is another function than numpy's.
UNWANTED = {"argpartition", "partition", "lexsort", "bincount", "repeat", "add", "unique"}


def signature_of(name: str) -> inspect.Signature:
    scope: dict[str, Any] = {}
    exec(f"def function{CUPY['functions'][name]}: pass", scope)
    return inspect.signature(scope["function"])


class Watched:
    """numpy, whose calls are bound to CuPy's signatures first."""

    def __init__(self) -> None:
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        assert name not in UNWANTED, name
        function = getattr(np, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            signature_of(name).bind(*args, **kwargs)
            self.called.add(name)
            return function(*args, **kwargs)

        return call


@pytest.mark.slow
@needs_compiler
def test_every_call_binds() -> None:
    xp = Watched()
    for clustering in (Clustering(), Clustering("cuml", 1 << 30, DBSCAN)):
        for camids in (None, np.arange(80) % 5):
            stages = shim_stages(clustering, xp=xp)
            features_ND = draw_features("half_copies", 80, 16, 0)
            make_pseudo_labels(features_ND, k1=8, k2=3, p=2e-2, threads=1, stages=stages, camids=camids, features="raw")
    query, gallery = sides("clustered", 0)
    reranked_hits(query, gallery, engine=partial(rerank_gpu.KernelStages, backend=NumpyBackend(xp=xp)))
    assert xp.called == names("xp"), "calls that these labellings do not reach are not checked"


def names(of: str) -> set[str]:
    """The functions that the engine's source takes of `xp`, or the methods that it calls on anything else."""
    found = set()
    for node in (node for file in SOURCES for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            value = node.func.value
            is_xp = isinstance(value, ast.Name) and value.id == "xp"
            if is_xp == (of == "xp"):
                found.add(node.func.attr)
    return found - {"cuda"}


def test_methods_are_those_of_cupy_arrays() -> None:
    of_numpy = {name for name in dir(np.ndarray) if not name.startswith("_")}
    assert (names("other") & of_numpy) <= set(CUPY["methods"])


def test_a_call_that_cupy_does_not_take_is_noticed() -> None:
    with pytest.raises(TypeError):
        Watched().zeros(3, dtype=np.int64, like=None)
    with pytest.raises(AssertionError):
        _ = Watched().repeat


def test_the_table_is_that_of_the_installed_cupy() -> None:
    cupy = pytest.importorskip("cupy")
    for name in FUNCTIONS:
        assert written(getattr(cupy, name)) == CUPY["functions"][name], name
    assert set(CUPY["methods"]) <= set(dir(cupy.ndarray))

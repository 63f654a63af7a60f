"""Whether an engine re-ranks as the compiled one does, in every stage: part of `distreid gpu-check`."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.common.text import first_line
from distreid.evaluation.bench import draw_side
from distreid.evaluation.features import Features
from distreid.evaluation.pairs import Pairs, find_pairs
from distreid.evaluation.rerank import Engine, unit_rows
from distreid.evaluation.rerank_gpu import KernelStages
from distreid.evaluation.rerank_stages import CompiledStages, Stages
from distreid.retrieval.gpu.backend import CupyBackend
from distreid.retrieval.gpu.choice import find_backend
from distreid.retrieval.products import full_float32

KINDS = ("clustered", "copied", "random", "tied")
DIM = 203  # not a whole number of the eight running sums
IMAGES_PER_IDENTITY = 20  # of which some look like others: their ranks are far down
QUERIES = 8  # one of so many images is a query
SETS = (20, 6, 0.3)  # k1, k2 and lambda: the defaults
OTHER_THREADS, OTHER_SCRATCH = 256, 1 << 20  # than the engine's own


def engines_on(device: torch.device) -> dict[str, Engine]:
    """What there is to be checked on a GPU: the kernels with two choices of threads and scratch, or, without CuPy, its products."""
    backend, _ = find_backend(device)
    if backend is None:
        return {"compiled, products on the GPU": partial(CompiledStages, device=device)}
    other = CupyBackend(device, threads=OTHER_THREADS, scratch_bytes=OTHER_SCRATCH)
    return {"kernels": partial(KernelStages, backend=backend), "kernels, other threads": partial(KernelStages, backend=other)}


def sides_of(kind: str, n: int, seed: int) -> tuple[Features, Features]:
    """n images of identities over cameras; copied: half of the gallery are others times four; random: features know no identity;
    tied: corners of a cube of 20 dimensions."""

    def side(images: int, number: int) -> Features:
        features_ND, pids, camids = draw_side(images, DIM, seed, number)
        pids %= max(n // IMAGES_PER_IDENTITY, 1)
        if kind == "copied":
            features_ND[images // 2 :] = 4 * features_ND[: images - images // 2]
        elif kind == "random":
            features_ND = np.random.default_rng([seed, number]).standard_normal((images, DIM), dtype=np.float32)
        elif kind == "tied":
            features_ND = np.sign(features_ND[:, :20])
        return Features(features_ND, pids, camids)

    return side(n // QUERIES, 1), side(n - n // QUERIES, 2)


def stage_arrays(stages: Stages, k1: int, k2: int, lambda_value: float, pairs: Pairs) -> Iterator[tuple[str, NDArray[Any]]]:
    """(name, array) of what every stage makes, one after the other."""
    with full_float32(), torch.inference_mode():
        near_NK, farthest_N = stages.neighbours(k1, _nobody)
        yield "neighbours", stages.host(near_NK)
        yield "largest distances", stages.host(farthest_N)
        v = stages.weights(near_NK, farthest_N, round(k1 / 2) + 1)
        yield from _arrays_of("V", stages, v)
        v = stages.expand(v, near_NK, k2)
        yield from _arrays_of("expanded V", stages, v)
        yield "ranks", stages.ranks(v, farthest_N, lambda_value, pairs, _nobody)


def _arrays_of(name: str, stages: Stages, v: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    rows = stages.rows(v)
    yield from ((f"{name}: {part}", getattr(rows, part)) for part in ("indptr", "indices", "data"))


def _nobody(done: int) -> None:
    """Nobody is told."""


def check_reranking(engines: Mapping[str, Engine], n: int, *, threads: int = 1) -> list[dict[str, Any]]:
    """Every kind of set re-ranked by each engine. A dict a kind: its images, and `engines`: by name the differences, in words."""
    found = []
    for number, kind in enumerate(KINDS):
        query, gallery = sides_of(kind, n, number)
        given, pairs = unit_rows(query, gallery), find_pairs(query, gallery)
        expected = dict(stage_arrays(CompiledStages(given, threads=threads), *SETS, pairs))
        differences = {name: _differences(engine, given, pairs, expected) for name, engine in engines.items()}
        found.append({"kind": kind, "queries": len(query), "gallery": len(gallery), "engines": differences})
    return found


def _differences(engine: Engine, unit_ND: NDArray[np.float32], pairs: Pairs, expected: dict[str, NDArray[Any]]) -> list[str]:
    lines = []
    try:
        for name, array in stage_arrays(engine(unit_ND), *SETS, pairs):
            wanted = expected[name]
            if array.shape != wanted.shape:
                lines.append(f"{name}: shape {array.shape} in place of {wanted.shape}")
            elif array.tobytes() != wanted.tobytes():
                lines.append(f"{name}: {np.count_nonzero(array != wanted)} of {wanted.size} differ")
    except Exception as error:  # whatever a driver, a compiler or a library raises is a finding
        lines.append(f"failed: {type(error).__name__}: {first_line(error)}")
    return lines

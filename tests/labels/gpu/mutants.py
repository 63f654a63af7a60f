"""Broken kernels that the checks must notice: `python -m tests.labels.gpu.mutants` prints which were, as JSON.

A program of its own: a broken kernel may crash or never end, so each is tried in a fork, with a limit of time. Nothing here
computes on several threads, so that forks are safe.
"""

import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from distreid.evaluation.check import stage_arrays
from distreid.evaluation.rerank_gpu import KernelStages
from distreid.evaluation.rerank_stages import CompiledStages
from distreid.labels.cpu import clustering
from distreid.labels.cpu.stages import CpuStages
from distreid.retrieval.gpu.launch import SOURCE
from distreid.retrieval.lists import camera_lists, plain_lists
from distreid.retrieval.prepare import prepare
from tests.evaluation.reranking import KINDS as RERANKED
from tests.evaluation.reranking import sides, unit
from tests.features import draw_features
from tests.labels.gpu.graphs import cliques_with_borders, first_components, pairs_of, random_tree
from tests.labels.gpu.shim import NumpyBackend, few_blocks, library, shim_stages

SECONDS = 20
# name: (text of kernels.cu, what takes its place)
MUTANTS: dict[str, tuple[str, str]] = {
    "no barrier before a list grows": (
        "  __syncthreads();\n  if (threadIdx.x == 0)\n    for (int w = 0; w < (int)",
        "  if (threadIdx.x == 0)\n    for (int w = 0; w < (int)",
    ),
    "another order of the 32 sums": ("width = 16; width; width /= 2) sum", "width = 1; width < 32; width *= 2) sum"),
    "the last of 32 sums is left out": ("threadIdx.x & 31; d < dim;", "threadIdx.x & 31; d < dim - dim % 32;"),
    "a shorter power series": ("int at = 12; at >= 0", "int at = 11; at >= 0"),
    "half lists of any depth": ("s < half && t < half ? IN_HALF", "s < half ? IN_HALF"),
    "two thirds are enough": ("3 * common > 2 * size", "3 * common >= 2 * size"),
    "a point twice in R*": ("mark_N[point] == q", "mark_N[point] >= 0"),
    "marks are not cleared": ("mark_N[extra[q]] = NOT_REACHED;", ";"),
    "the last place counts, not the first": ("atomicMin(mark_N + extra[q], q)", "mark_N[extra[q]] = q"),
    "sums are not cleared": ("      sums_N[column] = 0;", ""),
    "places without a neighbour count": ("sums_N[column] / found", "sums_N[column] / q"),
    "a row after itself": ("after ? place_E[e] + 1", "after ? place_E[e]"),
    "no barrier between columns": ("by_column_values[at]));\n    }\n    __syncthreads();", "by_column_values[at]));\n    }"),
    "pairs at the cutoff are left out": ("place(distance <= cutoff", "place(distance < cutoff"),
    "the noise of a zero stays": ("if (distance < ROUNDING_NOISE) distance = 0;", ""),
    "copies are not counted": ("pairs += sizes_U[u] * sizes_U[w]", "pairs += 1"),
    "a point is its own company": ("(double)(sizes_U[w] - (w == u))", "(double)sizes_U[w]"),
    "similarities are not cleared": ("alike_K[labels_U[touched_U[f]]] = 0;", ";"),
    "degrees of one side": ("  atomicAdd(near_U + w_E[e], (u64)sizes_U[u_E[e]]);", ""),
    "the smaller root is hung": ("if (a < b) {", "if (a > b) {"),
    "a union is lost": ("if (atomicCAS(parent_U + a, a, b) == a) return;", "shim::maybe_yield(); parent_U[a] = b; return;"),
    "borders of one side": ("  if (core_U[w] && !core_U[u]) atomicMin(first_U + u, cluster_U[w]);", ""),
    "the last cluster takes a border": ("atomicMin(first_U + w, cluster_U[u])", "first_U[w] = cluster_U[u]"),
    "scales of other points": ("scales_N[members[m]]", "scales_N[m]"),
    "another order of the eight sums": ("__shfl_down_sync(~0u, sum, 4)", "__shfl_down_sync(~0u, sum, 2)"),
    "the numbers after the last eight are left out": ("d < dim && lane == 0", "d < dim && lane < 0"),
    "a distance below zero": ("fmax(__dsub_rn(2.0, __dmul_rn(2.0, score)), 0.0)", "__dsub_rn(2.0, __dmul_rn(2.0, score))"),
    "the least product alone is the farthest": ("__dmul_rn(2.0, error)), lowest", "0.0), lowest"),
    "an image is its own farthest": ("    if (j != i) least = fminf", "    least = fminf"),
    "float32 decides what comes before": ("double slack = lambda", "double slack = 0 * lambda"),
    "no barrier before the undecided are read": (
        "        before += about < low;\n      }\n      __syncthreads();",
        "        before += about < low;\n      }",
    ),
    "all that tie come before": ("distance == mine && g < positives[p]", "distance == mine"),
    "the last of positives that tie is the first": ("found_T[o] == mine && o < p", "found_T[o] == mine && o > p"),
    "images of the same person count": ("jaccard_G[same[s]] = NEVER;", ";"),
    "overlaps of the query before": ("blockDim.x) jaccard_G[g] = 0;", "blockDim.x) ;"),
    "a pair beyond the end": ("if (e >= pairs) return;\n  atomicAdd", "if (e > pairs) return;\n  atomicAdd"),
}  # fmt: skip


@dataclass
class Case:
    """Features with what the compiled engine makes of them."""

    prepared: Any
    lists: Any
    arrays: list[bytes]

    @classmethod
    def of(cls, kind: str, count: int, k1: int, cameras: int = 0) -> "Case":
        features_ND = draw_features(kind, count, 37, 1)
        camids = np.arange(count) % cameras if cameras else None
        prepared, engine = prepare(features_ND, k1, 1, camids), CpuStages(1)
        if camids is None:
            lists = plain_lists(prepared, k1, 3, engine.search)
        else:  # own cameras hold fewer points than are asked for
            lists = camera_lists(prepared, camids, (14, 5), (13, 3), engine.search)
        return cls(prepared, lists, arrays(engine, prepared, lists))


def arrays(engine: Any, prepared: Any, lists: Any) -> list[bytes]:
    """Whatever comes of the lists, as bytes."""
    v = engine.reciprocal(prepared, lists)
    weights = engine.expand(v, prepared, lists)
    found: list[Any] = [*weights.v]
    # The largest J held lies at the cutoff exactly.
    whole = engine.pairs_within(weights, 1.0)
    cutoff = float(np.median(whole.graph.data))
    near = engine.pairs_within(weights, cutoff)
    found += [whole.total, whole.near, near.total, near.near, near.graph.indptr, near.graph.indices, near.graph.data]
    for eps, least in ((cutoff / 2, 3), (cutoff, 5)):
        labels_U = engine.dbscan(near, prepared.sizes, eps, least)
        chosen_S = np.flatnonzero(labels_U >= 0)
        sizes_K = np.bincount(labels_U[chosen_S], weights=prepared.sizes[chosen_S]).astype(np.int64)
        found += [labels_U, engine.silhouettes(weights, chosen_S, labels_U, sizes_K)]
        found.append(engine.centers(prepared, labels_U[prepared.group_N], True))
    return [np.asarray(array).tobytes() for array in found]


@dataclass
class Reranking:
    """Features to re-rank with what the compiled stages make of them."""

    given: tuple[Any, ...]
    arrays: list[bytes]

    @classmethod
    def of(cls, kind: str, seed: int) -> "Reranking":
        unit_ND, pairs = unit(*sides(kind, seed, dim=21, images=64))
        given = unit_ND, (8, 3, 0.3, pairs)
        return cls(given, cls.bytes_of(CompiledStages(unit_ND), given))

    @staticmethod
    def bytes_of(stages: Any, given: tuple[Any, ...]) -> list[bytes]:
        return [np.asarray(array).tobytes() for array in dict(stage_arrays(stages, *given[1])).values()]

    def differs(self, source: str, seed: int) -> bool:
        backend = NumpyBackend(seed=seed, resident=3, threads=64, guard=True, free=few_blocks(4, 60), source=source)
        return self.bytes_of(KernelStages(self.given[0], backend), self.given) != self.arrays


def noticed(source: str, cases: list[Case], rerankings: list[Reranking]) -> bool:
    """Whether any array differs from the compiled engine's, or a kernel fails."""
    if any(reranking.differs(source, seed) for seed, reranking in enumerate(rerankings, 2)):
        return True
    for seed, case in enumerate(cases, 2):
        count = len(case.prepared.group_N)
        stages = shim_stages(seed=seed, resident=3, threads=64, guard=True, free=few_blocks(4, count), source=source)
        squared = stages.search(case.prepared, 8)[1]
        if squared.tobytes() != CpuStages(1).search(case.prepared, 8)[1].tobytes():
            return True
        if arrays(stages, case.prepared, case.lists) != case.arrays:
            return True
    random = np.random.default_rng(0)
    for seed in range(2, 8):
        tree, stages = random_tree(random, 160), shim_stages(seed=seed, resident=16, source=source)
        labels_U = stages.dbscan(pairs_of(stages.backend, 160, tree), np.ones(160, np.int64), 0.5, 1)
        if not np.array_equal(labels_U, first_components(160, tree)):
            return True
        pairs, ones_U = pairs_of(stages.backend, 90, cliques_with_borders(random)), np.ones(90, np.int64)
        if not np.array_equal(stages.dbscan(pairs, ones_U, 0.5, 5), clustering.dbscan(pairs.graph, ones_U, 0.5, 5)):
            return True
    return False


def in_fork(source: str, *cases: Any) -> bool:
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return status != 0
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        os._exit(int(noticed(source, *cases)))
    except BaseException:  # an assertion of the shim, or what wrong lengths bring about
        os._exit(2)


def main() -> None:
    torch.set_num_threads(1)
    text = SOURCE.read_text(encoding="utf-8")
    cases = [
        Case.of("half_copies", 60, 8),
        Case.of("clustered", 60, 8, cameras=5),
        Case.of("random", 140, 16),
        Case.of("clustered", 110, 20),
    ]
    rerankings = [Reranking.of(kind, seed) for seed, kind in enumerate(RERANKED)]
    result = {}
    for name, (old, new) in {"none": ("", ""), **MUTANTS}.items():
        assert not old or text.count(old) == 1, f"{name}: its text stands {text.count(old)} times in kernels.cu"
        source, began = text.replace(old, new) if old else text, time.perf_counter()
        library("float", source)
        result[name] = in_fork(source, cases, rerankings)
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

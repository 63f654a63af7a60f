"""Graphs of pairs u < w that clusterings are tested on."""

import numpy as np
from numpy.typing import NDArray

from distreid.labels.gpu.stages import KernelPairs
from distreid.retrieval.gpu.backend import Backend

Graph = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]  # u, w, J


def random_graph(random: np.random.Generator, points: int, density: float) -> Graph:
    u, w = np.nonzero(np.triu(random.random((points, points)) < density, 1))
    return u.astype(np.int32), w.astype(np.int32), random.random(len(u))


def random_tree(random: np.random.Generator, points: int) -> Graph:
    """A forest of a few long trees, numbered and listed at random: every edge joins two trees, so that a union that is lost to
    another thread shows. On clusters, where points have many ways to each other, it does not."""
    name = random.permutation(points).astype(np.int32)
    parent = np.array([0, *(int(random.integers(max(0, i - 3), i)) for i in range(1, points))])
    kept = random.random(points) > 0.03
    kept[0] = False
    a, b = name[np.flatnonzero(kept)], name[parent[kept]]
    order = random.permutation(len(a))
    return np.minimum(a, b)[order], np.maximum(a, b)[order], np.zeros(len(a))


def cliques_with_borders(random: np.random.Generator) -> Graph:
    """90 points: 12 cliques of 5, and 30 points of which each has one neighbour in each of three cliques; numbered at random."""
    name = random.permutation(90)
    inside = [(name[5 * c + i], name[5 * c + j]) for c in range(12) for i in range(5) for j in range(i)]
    beside = [(name[60 + b], name[5 * c + random.integers(5)]) for b in range(30) for c in random.permutation(12)[:3]]
    pairs = np.sort(np.array(inside + beside, np.int32), axis=1)
    u, w = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].T.copy()
    return u, w, np.zeros(len(u))


def first_components(points: int, graph: Graph) -> NDArray[np.int64]:
    """Number of each point's connected component, by first point; slow and obvious."""
    labels = np.full(points, -1)
    beside: list[list[int]] = [[] for _ in range(points)]
    for u, w in zip(graph[0].tolist(), graph[1].tolist(), strict=True):
        beside[u].append(w)
        beside[w].append(u)
    for start in range(points):
        if labels[start] < 0:
            labels[start] = labels.max() + 1
            waiting = [start]
            while waiting:
                for other in beside[waiting.pop()]:
                    if labels[other] < 0:
                        labels[other] = labels[start]
                        waiting.append(other)
    return labels


def dense_of(points: int, graph: Graph) -> NDArray[np.float64]:
    u, w, distances = graph
    dense_UU = np.ones((points, points))
    dense_UU[u, w] = dense_UU[w, u] = distances
    np.fill_diagonal(dense_UU, 0)
    return dense_UU


def pairs_of(backend: Backend, points: int, graph: Graph) -> KernelPairs:
    return KernelPairs(*graph, 1.0, 0, 0, points, backend)

"""Measures the label engine on this machine, beside one plain float32 product of the same size."""

import time
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.errors import UserError
from distreid.labels.api import eps_from_proportion, jaccard_graph, make_pseudo_labels
from distreid.labels.reference import dense_dbscan, dense_jaccard
from distreid.labels.settings import K1, K2, MIN_SAMPLES, NeighbourKind, P
from distreid.retrieval.blocks import blocks, peak_memory_bytes

IMAGES_PER_IDENTITY = 20
LARGEST_DENSE = 4000


def clustered_features(
    n: int, dim: int, seed: int, spread: float = 0.7, images_per_identity: int = IMAGES_PER_IDENTITY
) -> NDArray[np.float32]:
    """n random features, float32 [n, dim], around n / `images_per_identity` centres; `spread`: noise per dimension, relative to
    that of the centres."""
    random = np.random.default_rng(seed)
    centers = random.standard_normal((max(n // images_per_identity, 1), dim), dtype=np.float32)
    identities_N = np.sort(random.integers(0, len(centers), n))
    features_ND = np.empty((n, dim), np.float32)
    for start, stop in blocks(n, 4096):
        noise = random.standard_normal((stop - start, dim), dtype=np.float32)
        features_ND[start:stop] = centers[identities_N[start:stop]] + spread * noise
    return features_ND


def product_seconds(features_ND: NDArray[np.float32]) -> float:
    """Seconds of one full float32 N×N×D product, block by block, nothing kept."""
    features = torch.from_numpy(features_ND)
    begin = time.perf_counter()
    for row0, row1 in blocks(len(features), 1024):
        for col0, col1 in blocks(len(features), 16384):
            torch.mm(features[row0:row1], features[col0:col1].T)
    return time.perf_counter() - begin


def bench_labels(
    n: int,
    dim: int,
    k1: int = K1,
    k2: int = K2,
    p: float = P,
    min_samples: int = MIN_SAMPLES,
    seed: int = 0,
    oracle: bool = False,
    device: str = "cpu",
    neighbours: NeighbourKind = "exact",
    images_per_identity: int = IMAGES_PER_IDENTITY,
) -> dict[str, Any]:
    """Labels n clustered random features of `dim` dimensions: seconds per stage (without compiling), peak memory of the process,
    and the time of one full float32 product of the same size in the same run. With `oracle` (n ≤ 4,000) the dense form beside it.
    """
    if oracle and n > LARGEST_DENSE:
        raise UserError(f"n = {n}: the dense comparison takes at most {LARGEST_DENSE} features")
    label = partial(make_pseudo_labels, k1=k1, k2=k2, min_samples=min_samples, device=device, neighbours=neighbours)
    label(clustered_features(max(k1 + 1, 200), dim, seed), p=1e-2)
    features_ND = clustered_features(n, dim, seed, images_per_identity=images_per_identity)
    before = peak_memory_bytes()
    labels = label(features_ND, p=p)
    peak = peak_memory_bytes()
    product = product_seconds(features_ND)
    seconds = {name.removeprefix("seconds_"): took for name, took in labels.stats.items() if name.startswith("seconds_")}
    result: dict[str, Any] = {"n": n, "dim": dim, "k1": k1, "k2": k2, "p": p, "min_samples": min_samples, "seed": seed}
    result |= {"threads": torch.get_num_threads(), "device": device, "neighbours": neighbours}
    if "recall" in labels.stats:
        result["recall"] = labels.stats["recall"]
    after = sum(took for name, took in seconds.items() if name not in ("check", "neighbours"))
    result |= {"seconds": seconds, "seconds_total": labels.stats["seconds"]}
    result["microseconds_per_point_after_neighbours"] = 1e6 * after / n
    result |= {"seconds_product": product, "ratio_to_product": labels.stats["seconds"] / product}
    result |= {"features_bytes": features_ND.nbytes, "peak_bytes_before": before, "peak_bytes": peak}
    result |= {"eps": labels.eps, "pairs": labels.stats["pairs"], "pairs_per_point": labels.stats["pairs"] / n, **labels.quality}
    if oracle:
        result["dense"] = _beside_dense(features_ND, k1, k2, p, min_samples, labels.labels)
    return result


def _beside_dense(
    features_ND: NDArray[np.float32], k1: int, k2: int, p: float, min_samples: int, labels_N: NDArray[np.int64]
) -> dict[str, Any]:
    begin = time.perf_counter()
    dense_NN = dense_jaccard(features_ND, k1, k2)
    pairs = np.sort(dense_NN[np.triu_indices(len(dense_NN), 1)])
    eps = float(pairs[: round(p * len(pairs))].mean())
    dense_labels_N = dense_dbscan(dense_NN, eps, min_samples)
    seconds = time.perf_counter() - begin
    graph = jaccard_graph(features_ND, k1, k2)
    stored = graph.tocoo()
    difference_NN = dense_NN - 1
    difference_NN[stored.row, stored.col] = dense_NN[stored.row, stored.col] - stored.data
    return {
        "seconds": seconds,
        "largest_difference": float(np.abs(difference_NN).max()),
        "eps_difference": abs(eps - eps_from_proportion(graph, p, len(dense_NN))),
        "labels_equal": bool(np.array_equal(dense_labels_N, labels_N)),
    }

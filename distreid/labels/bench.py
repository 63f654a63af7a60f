"""Measures the label engine on this machine, beside one plain float32 product of the same size."""

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distreid.common.errors import UserError
from distreid.labels import reference
from distreid.labels.api import eps_from_proportion, jaccard_graph, label_device, make_pseudo_labels
from distreid.labels.settings import LabelSettings
from distreid.retrieval.blocks import blocks, peak_memory_bytes
from distreid.retrieval.products import as_tensor, full_float32

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


def product_seconds(features_ND: NDArray[np.float32], device: torch.device | str = "cpu") -> float:
    """Seconds of one full float32 N×N×D product, block by block, nothing kept; without TF32 and the way to the device."""
    features = as_tensor(features_ND, device)
    with full_float32():
        torch.mm(features[:2], features[:2].T).sum().item()  # loads the library; on a GPU, waits
        begin = time.perf_counter()
        for row0, row1 in blocks(len(features), 1024):
            for col0, col1 in blocks(len(features), 16384):
                product = torch.mm(features[row0:row1], features[col0:col1].T)
        product[0, 0].item()
    return time.perf_counter() - begin


def bench_labels(
    n: int,
    dim: int,
    settings: LabelSettings | None = None,
    *,
    seed: int = 0,
    oracle: bool = False,
    images_per_identity: int = IMAGES_PER_IDENTITY,
) -> dict[str, Any]:
    """Labels n clustered random features of `dim` dimensions: seconds per stage (without compiling), peak memory of the process,
    and the time of one full float32 product of the same size in the same run. With `oracle` (n ≤ 4,000) the dense form beside it.
    """
    settings = settings or LabelSettings()
    if oracle and n > LARGEST_DENSE:
        raise UserError(f"n = {n}: the dense comparison takes at most {LARGEST_DENSE} features")
    make_pseudo_labels(clustered_features(max(settings.k1 + 1, 200), dim, seed), settings, p=1e-2)
    features_ND = clustered_features(n, dim, seed, images_per_identity=images_per_identity)
    before = peak_memory_bytes()
    labels = make_pseudo_labels(features_ND, settings)
    peak = peak_memory_bytes()
    product = product_seconds(features_ND)
    seconds = {name.removeprefix("seconds_"): took for name, took in labels.stats.items() if name.startswith("seconds_")}
    result: dict[str, Any] = {"n": n, "dim": dim}
    result |= {name: getattr(settings, name) for name in ("k1", "k2", "p", "min_samples")} | {"seed": seed}
    result |= {"threads": torch.get_num_threads(), "device": label_device(settings.device), "neighbours": settings.neighbours}
    if "recall" in labels.stats:
        result["recall"] = labels.stats["recall"]
    after = sum(took for name, took in seconds.items() if name not in ("check", "neighbours"))
    result |= {"seconds": seconds, "seconds_total": labels.stats["seconds"]}
    result["microseconds_per_point_after_neighbours"] = 1e6 * after / n
    result |= {"seconds_product": product, "ratio_to_product": labels.stats["seconds"] / product}
    result |= {"features_bytes": features_ND.nbytes, "peak_bytes_before": before, "peak_bytes": peak}
    result |= {"eps": labels.eps, "pairs": labels.stats["pairs"], "pairs_per_point": labels.stats["pairs"] / n, **labels.quality}
    if oracle:
        result["dense"] = _beside_dense(features_ND, settings, labels.labels)
    return result


def _beside_dense(features_ND: NDArray[np.float32], settings: LabelSettings, labels_N: NDArray[np.int64]) -> dict[str, Any]:
    begin = time.perf_counter()
    dense_NN = reference.jaccard(features_ND, settings.k1, settings.k2)
    eps = reference.eps(dense_NN, settings.p)
    dense_labels_N = reference.dbscan(dense_NN, eps, settings.min_samples)
    seconds = time.perf_counter() - begin
    graph = jaccard_graph(features_ND, settings=settings)
    stored = graph.tocoo()
    difference_NN = dense_NN - 1
    difference_NN[stored.row, stored.col] = dense_NN[stored.row, stored.col] - stored.data
    return {
        "seconds": seconds,
        "largest_difference": float(np.abs(difference_NN).max()),
        "eps_difference": abs(eps - eps_from_proportion(graph, settings.p, len(dense_NN))),
        "labels_equal": bool(np.array_equal(dense_labels_N, labels_N)),
    }

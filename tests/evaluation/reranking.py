"""Sets to re-rank with everything that makes it hard."""

import numpy as np
from numpy.typing import NDArray

from distreid.evaluation import Features
from distreid.evaluation.pairs import Pairs, find_pairs
from distreid.evaluation.rerank import unit_rows
from tests.evaluation.sets import draw

KINDS = ("clustered", "copied", "whole numbers", "one direction")


def sides(kind: str, seed: int, dim: int = 24, images: int = 110) -> tuple[Features, Features]:
    """(query, gallery without junk). copied: a crowd of copies larger than the lists, and zero vectors. whole numbers: ties
    everywhere. one direction: all so near to each other that float32 hardly tells them apart."""
    query, gallery = draw(seed, queries=20, gallery=images - 20, dim=dim, identities=9, integers=kind == "whole numbers")
    random = np.random.default_rng(seed)
    centres, everyone = random.standard_normal((20, dim)), random.standard_normal(dim)

    def moved(side: Features) -> Features:
        features = side.features
        if kind != "whole numbers":
            features = features + centres[side.pids]
        if kind == "one direction":
            features = everyone + 2e-3 * features
        return Features(features, side.pids, side.camids)

    query, gallery = moved(query), moved(gallery)
    if kind == "copied":
        features = gallery.features.copy()
        features[:30] = features[0]
        features[30:40] = 2 * query.features[:10]
        features[40:45] = 0
        gallery = Features(features, gallery.pids, gallery.camids)
    return query, gallery.take(gallery.pids != -1)


def unit(query: Features, gallery: Features) -> tuple[NDArray[np.float32], Pairs]:
    """(normalised features of both, which pairs count)."""
    return unit_rows(query, gallery), find_pairs(query, gallery)

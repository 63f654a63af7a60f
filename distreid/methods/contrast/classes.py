"""Who is which row of the memory in a round: the source's identities, then the clusters, then the outliers that are classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Classes:
    """The classes of a round.

    Attributes:
        source_M: row of each source image; int64, empty without a source.
        target_N: row of each target image, -1 where it sits the round out; int64.
        outliers: the target images, in order, that are classes of their own, whose rows are the last.
        clustered: the number of rows before theirs.
        identities: the number of the source's rows, which are the first.
    """

    source_M: np.ndarray
    target_N: np.ndarray
    outliers: np.ndarray
    clustered: int
    identities: int

    @classmethod
    def of(cls, source_M: np.ndarray, identities: int, labels_N: np.ndarray, clusters: int, *, outliers: bool) -> Classes:
        """From the source's identities (int64 [M], 0 .. identities-1) and a round's labels (int64 [N], -1 or 0 .. clusters-1)."""
        outside = np.flatnonzero(labels_N < 0)
        target_N = np.where(labels_N < 0, -1, identities + labels_N)
        if outliers:
            target_N[outside] = identities + clusters + np.arange(len(outside))
        return cls(source_M, target_N, outside if outliers else outside[:0], identities + clusters, identities)

    def together(self, instances: int, seed: Sequence[int]) -> np.ndarray:
        """:attr:`target_N` for a balanced sampler: outliers, who have nobody to stand with, in random bunches of ``instances``."""
        found_N = self.target_N.copy()
        order = np.random.default_rng(list(seed)).permutation(self.outliers)
        found_N[order] = self.clustered + np.arange(len(order)) // instances
        return found_N

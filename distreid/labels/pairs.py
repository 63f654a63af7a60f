"""Pairs of groups as both GPU engines hold them: three arrays on the device."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from distreid.retrieval.reciprocal import Csr


@dataclass(frozen=True)
class ArrayPairs:
    """Implements `distreid.labels.stages.NearPairs`: J of u < w of groups with J ≤ cutoff, u ascending, as arrays of CuPy or torch.

    points: U. `total`, `near`: as there.
    """

    u_E: Any
    w_E: Any
    distance_E: Any
    cutoff: float
    total: int
    near: int
    points: int

    def on_host(self, array_E: Any) -> NDArray[Any]:
        """One of the arrays as numpy's."""
        return np.asarray(array_E.cpu())

    @property
    def held(self) -> int:
        return len(self.distance_E)

    @property
    def graph(self) -> Csr:
        u_E, w_E, distance_E = map(self.on_host, (self.u_E, self.w_E, self.distance_E))
        return Csr(np.searchsorted(u_E, np.arange(self.points + 1)), w_E.astype(np.int32, copy=False), distance_E)

    def within(self, eps: float) -> Self:
        kept_E = self.distance_E <= eps
        return replace(self, u_E=self.u_E[kept_E], w_E=self.w_E[kept_E], distance_E=self.distance_E[kept_E])

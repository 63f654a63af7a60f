"""The settings of a labelling, and which of them no features could satisfy."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distreid.errors import UserError

K1, K2, P, MIN_SAMPLES = 30, 6, 1.6e-3, 4
NeighbourKind = Literal["exact", "ivf", "hnsw"]


@dataclass(frozen=True)
class CameraLists:
    """Sizes of the camera-aware lists; the defaults are those of the authors' code."""

    k1_intra: int = 5
    k1_inter: int = 20
    k2_intra: int = 2
    k2_inter: int = 4

    def __post_init__(self) -> None:
        for one, two in (("k1_intra", "k2_intra"), ("k1_inter", "k2_inter")):
            k1, k2 = getattr(self, one), getattr(self, two)
            if k1 < 1 or not 1 <= k2 <= k1:
                raise UserError(f"{one} = {k1} and {two} = {k2}: both are 1 or more, and {two} is at most {one}")


def check_settings(k1: int, k2: int, p: float | None, min_samples: int, eps: float | None) -> None:
    """UserError for settings that no features could satisfy."""
    if k1 < 1:
        raise UserError(f"k1 = {k1}: use 1 or more neighbours (30 is usual)")
    if not 1 <= k2 <= k1:
        raise UserError(f"k2 = {k2}: the query expansion averages over 1 to k1 = {k1} neighbours (6 is usual)")
    if min_samples < 1:
        raise UserError(f"min_samples = {min_samples}: a cluster needs at least 1 sample (4 is usual)")
    if eps is not None and not 0 <= eps < 1:
        raise UserError(f"eps = {eps}: a Jaccard distance below which points are joined lies in 0 ≤ eps < 1")
    if eps is None and (p is None or not 0 < p <= 1):
        raise UserError(f"p = {p}: the proportion of nearest pairs lies in 0 < p ≤ 1 (1.6e-3 is usual)")


def check_cameras(camids_N: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """camids as int64 [N]; UserError unless there is one for each feature and there are two cameras or more."""
    camids_N = np.asarray(camids_N)
    if camids_N.shape != (count,) or not np.issubdtype(camids_N.dtype, np.integer):
        shape, kind = list(camids_N.shape), camids_N.dtype
        raise UserError(f"camids must be whole numbers, one for each of the {count} features, not {kind}{shape}")
    if (camids_N < 0).any():
        unknown = int((camids_N < 0).sum())
        raise UserError(f"{unknown} of {count} cameras are unknown (camid below 0): camera-aware distances need all; turn them off")
    if (camids_N == camids_N[0]).all():
        raise UserError("all features are of one camera: camera-aware distances need two or more; turn them off")
    return camids_N.astype(np.int64)

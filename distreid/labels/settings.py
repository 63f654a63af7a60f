"""The settings of a labelling. `LabelSettings` is the configuration's group `labels`; everything that labels takes it as it is.

Needs neither torch nor numba, so that a configuration can be read without them.
"""

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from distreid.common.errors import UserError
from distreid.common.settings import SETTINGS, Number, Switch, Whole, explain

NeighbourKind = Literal["exact", "ivf", "hnsw"]
DbscanKind = Literal["auto", "cuml", "graph"]


@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class LabelSettings:
    """Lines 3-4 of Algorithm 1 (DAAM, Huang et al., AAAI 2020): from features to pseudo-labels."""

    # A value out of bounds raises pydantic's ValidationError, a ValueError; `label_settings` makes one line of it.

    k1: Whole = Field(default=30, gt=0, description="k-reciprocal encoding (Zhong et al. 2017) as used for clustering")
    k2: Whole = Field(default=6, gt=0, description="query expansion: mean over the k2 nearest, the point included")
    p: Number = Field(default=1.6e-3, gt=0, le=1, description="decided: UDAP's value; the paper studies it in Figure 5")
    min_samples: Whole = Field(
        default=4, gt=0, description="paper's M, default of Figure 6: DBSCAN's min_samples, the point included"
    )
    eps: Literal["proportion", "quality", "first_round", "fixed"] = Field(
        default="proportion",
        description="decided: recomputed every round. quality: of ten, that of the labels with the best silhouette, outliers"
        " counting 0 (decided; p is not used)",
    )
    eps_value: Number = Field(default=0.6, ge=0, lt=1, description="used by eps: fixed; a Jaccard distance, 0 joins copies only")
    features: Literal["l2", "raw"] = Field(default="l2", description="decided: Eq. 4's f and C_k are L2-normalised")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: the GPU where there is one, same labels")
    neighbours: NeighbourKind = Field(
        default="exact", description="approximate ones need the extra `approximate`; for very large sets"
    )
    dbscan: DbscanKind = Field(
        default="auto", description="on a GPU: cuml, or graph (a union-find on the pairs within eps); auto: cuml where it fits"
    )
    dense_gb: Number = Field(
        default=0, ge=0, description="what cuML's dense N × N matrix may take of a GPU, in 10⁹ bytes; 0: a quarter of what is free"
    )
    tasks: Whole = Field(
        default=1,
        gt=0,
        description="Ray tasks that share the exact search, each with the labelling actor's GPUs; more than 1 for many nodes",
    )
    camera_aware: Switch = Field(
        default=False, description="CA-Jaccard (Chen et al. 2024) in place of k1 and k2; the target's cameras must be known"
    )
    camera_normalize: Switch = Field(
        default=False,
        description="features less the mean of their camera's, over its deviation, before they are compared (Song et al. 2025)",
    )
    k1_intra: Whole = Field(default=5, gt=0, description="camera-aware: reciprocal neighbours in the own camera; its paper's value")
    k1_inter: Whole = Field(default=20, gt=0, description="and in all others")
    k2_intra: Whole = Field(default=2, gt=0, description="query expansion in the own camera")
    k2_inter: Whole = Field(default=4, gt=0, description="and in all others")

    @property
    def camera_keys(self) -> list[str]:
        """The keys that are on and need the target's cameras."""
        return [key for key in ("camera_aware", "camera_normalize") if getattr(self, key)]

    def __post_init__(self) -> None:
        if self.dbscan == "cuml" and self.device == "cpu":
            raise ValueError("dbscan=cuml needs a GPU: it does not go with device=cpu")
        for end in ("", "_intra", "_inter"):
            k1, k2 = getattr(self, f"k1{end}"), getattr(self, f"k2{end}")
            if k2 > k1:
                raise ValueError(f"k2{end}={k2} must not be above k1{end}={k1}")


def label_settings(settings: LabelSettings | None = None, **changes: Any) -> LabelSettings:
    """`settings` (the defaults) with some keys changed. UserError, one line that names the key, for what cannot be."""
    try:
        return dataclasses.replace(settings or LabelSettings(), **changes)
    except ValidationError as error:
        raise UserError(explain(error, LabelSettings)) from None


def check_eps(eps: float) -> float:
    """eps as a float; UserError where no Jaccard distance could be below it, by the bounds of `LabelSettings.eps_value`."""
    try:
        return LabelSettings(eps_value=eps).eps_value
    except ValidationError as error:
        raise UserError(explain(error, LabelSettings).replace("eps_value", "eps")) from None


def check_cameras(camids_N: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """camids as int64 [N]; UserError unless there is one for each feature and there are two cameras or more."""
    camids_N = np.asarray(camids_N)
    if camids_N.shape != (count,) or not np.issubdtype(camids_N.dtype, np.integer):
        shape, kind = list(camids_N.shape), camids_N.dtype
        raise UserError(f"camids must be whole numbers, one for each of the {count} features, not {kind}{shape}")
    if (camids_N < 0).any():
        unknown = int((camids_N < 0).sum())
        raise UserError(f"{unknown} of {count} cameras are unknown (camid below 0): labels by camera need all; turn them off")
    if len(np.unique(camids_N)) < 2:
        raise UserError("all features are of one camera: labels by camera need two or more; turn them off")
    return camids_N.astype(np.int64)

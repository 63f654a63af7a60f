"""What the report shows of images and features: plain arrays, which `distreid.methods.pictures` computes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1  # pid or camid


@dataclass(frozen=True, eq=False)
class Crop:
    """pixels_HW3: uint8 RGB; path: below the data set's root; pid, camid: -1 where unknown."""

    pixels_HW3: NDArray[np.uint8]
    path: str
    pid: int = UNKNOWN
    camid: int = UNKNOWN


@dataclass(frozen=True, eq=False)
class RankList:
    """A query and the first gallery images of its ranking, images of its own person and camera left out.

    kind: "best", "median" or "worst"; ap: average precision by precision at hits; first_hit: 1-based rank, 0 for none;
    ranked: nearest first, each with its cosine similarity. A crop matches where it has the query's pid.
    """

    kind: str
    query: Crop
    ap: float
    positives: int
    first_hit: int
    ranked: Sequence[tuple[Crop, float]]


@dataclass(frozen=True, eq=False)
class Attended:
    """An image of the source or the target and what the two branches weigh: float32 [h, w] in (0, 1) each.

    shared_hw: A of Eq. 1, averaged over the channels with F as the weights: the share of a place's activation that is passed to
    the domain-shared branch. specific_hw: likewise 1 - A, or the second module (IA); None without a domain-specific branch.
    """

    domain: str
    crop: Crop
    shared_hw: NDArray[np.float32]
    specific_hw: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class Cloud:
    """A 2-D embedding of one model's features: xy_N2 float; groups (pids, or clusters where these are unknown) and camids [N]."""

    model: str
    xy_N2: NDArray[np.floating]
    groups_N: NDArray[np.int64]
    camids_N: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cluster:
    """A pseudo-identity.

    score: its purity (the share of its most frequent identity) where identities are known, else its silhouette.
    identities: how many people it holds, None where unknown; pid: the most frequent one's, else -1; crops: some of its images.
    """

    number: int
    size: int
    score: float
    identities: int | None = None
    pid: int = UNKNOWN
    crops: Sequence[Crop] = ()


@dataclass(frozen=True, eq=False)
class Grid:
    """What a method drew after an epoch, such as `distreid.methods.edaan.grids`: uint8 RGB [H, W, 3]."""

    epoch: int
    pixels_HW3: NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """All pictures of a run; what is empty is not shown.

    round: whose model they were taken with, 0 for the source model. ranked_among: gallery images ranked, and there are.
    embedding_of: "identity" or "cluster", what `Cloud.groups_N` are. known: whether the training identities of the target are
    known, so that clusters are scored by purity. clusters: all of `labels_round`, best first; those to be shown hold crops.
    data: (role, description) of the source and the target. notes: why something is missing, a sentence each.
    protocol: how the target is tested (`distreid.common.text.protocol_name`), "" where it is not.
    """

    round: int
    rank_lists: Sequence[RankList] = ()
    ranked_among: tuple[int, int] = (0, 0)
    attended: Sequence[Attended] = ()
    grids: Sequence[Grid] = ()
    clouds: Sequence[Cloud] = ()
    embedding_of: str = "identity"
    labels_round: int = 0
    known: bool = False
    clusters: Sequence[Cluster] = ()
    data: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    protocol: str = ""

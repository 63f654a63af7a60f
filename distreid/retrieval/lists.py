"""Which points speak for which: the lists of neighbours that Jaccard distances are made of, plain or camera-aware."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distreid.retrieval.prepare import Prepared, subset

# (neighbours_Uk, squared_Uk): for each group of copies its k nearest rows (int32; NONE where there are fewer) and their d²
# (float64; inf there).
Neighbours = tuple[NDArray[np.int32], NDArray[np.float64]]
NONE = -1


class Search(Protocol):
    """A neighbour search. Groups with the same number in `apart_U` are not each other's neighbours, and no group its own."""

    def __call__(self, prepared: Prepared, k: int, *, apart_U: NDArray[np.int64] | None = None) -> Neighbours: ...


@dataclass(frozen=True)
class Lists:
    """neighbours_Uk, squared_Uk: as a search returns them; R(i) is made of these. half: length of the lists that R* adds, 0 for
    none. expansion_Uq: int32 rows over which the query expansion averages (NONE: a place that does not count)."""

    neighbours_Uk: NDArray[np.int32]
    squared_Uk: NDArray[np.float64]
    half: int
    expansion_Uq: NDArray[np.int32]


def plain_lists(prepared: Prepared, k1: int, k2: int, search: Search) -> Lists:
    """Zhong et al. (CVPR 2017): the k1 nearest, the point itself included, the half list of round(k1/2) + 1, the k2 nearest."""
    neighbours_Uk, squared_Uk = search(prepared, k1)
    return Lists(neighbours_Uk, squared_Uk, round(k1 / 2) + 1, neighbours_Uk[:, :k2])


def camera_lists(
    prepared: Prepared, camids_N: NDArray[np.integer], k1: tuple[int, int], k2: tuple[int, int], search: Search
) -> Lists:
    """CA-Jaccard (Chen et al., "CA-Jaccard: Camera-aware Jaccard Distance for Person Re-identification", CVPR 2024).

    k1, k2: of the own camera (intra) and of all others (inter).

    CKRNNs: R(i) is the union of the reciprocal neighbours in the ranking list of i's own camera and of those in the list of all
    other cameras, without the expansion R*. CLQE: V_i becomes the mean over the k2 nearest of the first list and those
    of the second. A point in one of i's lists can have i only in its list of the same kind, so one joint list is searched.

    [decided] As in the authors' code, reciprocity looks at k1 + 1 entries of each list, the point itself being the first of its
    own camera's. Where a camera, or all others, hold fewer points, the list is shorter (their code fills it with points of the
    other kind), and there is no warm-up with other sizes of k2 in the first round.
    """
    (k1_intra, k1_inter), (k2_intra, k2_inter) = k1, k2
    camera_U = np.asarray(camids_N, np.int64)[prepared.first_U]
    shape = (len(camera_U), k1_intra + 1)
    intra_Uk, intra_squared_Uk = np.full(shape, NONE, np.int32), np.full(shape, np.inf)
    for camera in np.unique(camera_U):
        own_U = camera_U == camera
        part, rows_n = subset(prepared, own_U)
        found_nk, intra_squared_Uk[own_U] = search(part, k1_intra + 1)
        intra_Uk[own_U] = np.where(found_nk == NONE, NONE, rows_n[found_nk])
    inter_Uk, inter_squared_Uk = search(prepared, k1_inter + 1, apart_U=camera_U)
    return Lists(
        np.concatenate([intra_Uk, inter_Uk], axis=1),
        np.concatenate([intra_squared_Uk, inter_squared_Uk], axis=1),
        0,
        np.concatenate([intra_Uk[:, :k2_intra], inter_Uk[:, :k2_inter]], axis=1),
    )

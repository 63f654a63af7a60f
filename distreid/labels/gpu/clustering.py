"""eps and DBSCAN on a device."""

import torch
from torch import Tensor

from distreid.labels.cpu.clustering import check_enough
from distreid.labels.gpu.pairs import DevicePairs


def eps_of_pairs(pairs: DevicePairs, sizes_U: Tensor, asked: int) -> float:
    """Mean of the `asked` smallest distances: of copies (0), then the held ones (each as often as it has copies), then ones."""
    zeros = int((sizes_U * (sizes_U - 1) // 2).sum())
    check_enough(asked, pairs.total + zeros, int(sizes_U.sum()))
    remaining = max(asked - zeros, 0)
    distance_E, order_E = torch.sort(pairs.distance_E, stable=True)
    copies_E = (sizes_U[pairs.u_E] * sizes_U[pairs.w_E])[order_E]
    before_E = copies_E.cumsum(0) - copies_E
    times_E = torch.minimum((remaining - before_E).clamp_min(0), copies_E)
    taken = int(times_E.sum())
    return (float((distance_E * times_E).sum()) + (remaining - taken)) / asked


def dbscan(pairs: DevicePairs, sizes_U: Tensor, eps: float, min_samples: int) -> Tensor:
    """DBSCAN's label of each group of copies, int64 [U]: clusters by their first core point, a border point to the first of its
    clusters, as scikit-learn does."""
    near_E = pairs.distance_E <= eps
    u_E, w_E = pairs.u_E[near_E], pairs.w_E[near_E]
    neighbours_U = sizes_U.clone().index_add_(0, u_E, sizes_U[w_E]).index_add_(0, w_E, sizes_U[u_E])
    core_U = neighbours_U >= min_samples
    both_E = core_U[u_E] & core_U[w_E]
    roots_U = _components(len(sizes_U), u_E[both_E], w_E[both_E])
    labels_U = torch.full_like(sizes_U, -1)
    labels_U[core_U] = torch.unique(roots_U[core_U], return_inverse=True)[1]
    one_E = core_U[u_E] != core_U[w_E]
    u_E, w_E = u_E[one_E], w_E[one_E]
    core_E, border_E = torch.where(core_U[u_E], u_E, w_E), torch.where(core_U[u_E], w_E, u_E)
    none = len(sizes_U)
    first_U = torch.full_like(sizes_U, none).scatter_reduce_(0, border_E, labels_U[core_E], "amin")
    return torch.where(core_U | (first_U == none), labels_U, first_U)


def _components(count: int, u_E: Tensor, w_E: Tensor) -> Tensor:
    """The smallest point of each point's connected component: trees are hooked onto the smallest root that they touch, then every
    point jumps to its root, until no edge joins two trees."""
    parent_U = torch.arange(count, device=u_E.device)
    while True:
        a_E, b_E = parent_U[u_E], parent_U[w_E]
        if torch.equal(a_E, b_E):
            return parent_U
        parent_U = parent_U.scatter_reduce(0, torch.maximum(a_E, b_E), torch.minimum(a_E, b_E), "amin")
        while not torch.equal(parent_U, jumped_U := parent_U[parent_U]):
            parent_U = jumped_U

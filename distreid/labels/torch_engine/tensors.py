"""What the device stages share: features on the device, exact distances of pairs, sums over segments."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distreid.retrieval.distances import LANES
from distreid.retrieval.prepare import Prepared

# Numbers of one temporary: 256 MB of float64.
BUDGET = 1 << 25


@dataclass(frozen=True)
class Features:
    """`Prepared` on a device."""

    x_ND: Tensor
    inverse_norms_N: Tensor
    group_N: Tensor
    first_U: Tensor
    sizes_U: Tensor

    @classmethod
    def of(cls, prepared: Prepared, device: torch.device) -> "Features":
        arrays = (prepared.x_ND, prepared.inverse_norms_N, prepared.group_N.astype(np.int64), prepared.first_U, prepared.sizes)
        return cls(*(to_device(array, device) for array in arrays))

    def distances(self, i_E: Tensor, j_E: Tensor) -> Tensor:
        """d² of pairs of rows, float64 [E], bit for bit that of `distreid.retrieval.distances`."""
        return squared_distances(self, i_E, j_E)


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Arrays from an object store are read-only, which torch's views are not made for."""
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)


def spans(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of blocks of at most `size` (at least 1) that cover 0..total."""
    for start in range(0, total, max(size, 1)):
        yield start, min(start + max(size, 1), total)


def squared_distances(features: Features, i_E: Tensor, j_E: Tensor) -> Tensor:
    """`Features.distances` in torch: 32 running sums in the order of the dimensions, then halves onto halves; every product and sum
    is rounded on its own."""
    dim = features.x_ND.shape[1]
    squared_E = torch.empty(len(i_E), dtype=torch.float64, device=i_E.device)
    for start, stop in spans(len(i_E), BUDGET // (dim + LANES)):
        lanes_EL = torch.zeros(stop - start, LANES, dtype=torch.float64, device=i_E.device)
        unit_ED, other_ED = (
            features.x_ND[rows].double().mul_(features.inverse_norms_N[rows, None]) for rows in (i_E[start:stop], j_E[start:stop])
        )
        difference_ED = unit_ED.sub_(other_ED)
        terms_ED = difference_ED.mul_(difference_ED)
        for at in range(0, dim, LANES):
            part = terms_ED[:, at : at + LANES]
            lanes_EL[:, : part.shape[1]] += part
        while lanes_EL.shape[1] > 1:
            left, right = lanes_EL.chunk(2, dim=1)
            lanes_EL = left + right
        squared_E[start:stop] = lanes_EL[:, 0]
    return squared_E


def segment_sums(values_E: Tensor, lengths_S: Tensor) -> Tensor:
    """Sums of consecutive segments, in order."""
    return torch.segment_reduce(values_E, "sum", lengths=lengths_S, axis=0, unsafe=True, initial=0.0)


def offsets_of(lengths_S: Tensor) -> Tensor:
    """Where each segment starts, and the end: [S + 1]."""
    return torch.nn.functional.pad(lengths_S.cumsum(0), (1, 0))


def ranges(starts_S: Tensor, lengths_S: Tensor) -> Tensor:
    """start, start + 1, … of every segment, one after the other."""
    shift_S = starts_S - offsets_of(lengths_S)[:-1]
    total = int(lengths_S.sum())
    return torch.repeat_interleave(shift_S, lengths_S, output_size=total) + torch.arange(total, device=starts_S.device)


def sums_by_key(keys_E: Tensor, values_E: Tensor) -> tuple[Tensor, Tensor]:
    """(distinct keys ascending, sum of each one's values in their order)."""
    keys_E, order_E = torch.sort(keys_E, stable=True)
    distinct_S, lengths_S = torch.unique_consecutive(keys_E, return_counts=True)
    return distinct_S, segment_sums(values_E[order_E], lengths_S)

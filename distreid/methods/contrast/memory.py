"""The memory: a unit vector for each class, the loss against all of them, and how they follow the features.

The unified contrastive loss of SpCL (Ge et al., NeurIPS 2020, Eq. 1) with Cluster Contrast's memory of whole clusters (Dai et al.,
ACCV 2022): features are compared with classes, never with single images.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distreid.common.transfer import send
from distreid.data.sampling import shard
from distreid.training.process_group import ProcessGroup


def contrastive_loss(f_BD: Tensor, memory_KD: Tensor, class_B: Tensor, temperature: float) -> Tensor:
    """-log(exp(<f, m_y> / tau) / sum_k exp(<f, m_k> / tau)) of each image; float32 [B].

    Args:
        f_BD, memory_KD: L2-normalised. class_B: y, int64 in [0, K).
    """
    return F.cross_entropy(f_BD.float() @ memory_KD.T / temperature, class_B, reduction="none")


@torch.no_grad()
def update_memory(memory_KD: Tensor, f_BD: Tensor, class_B: np.ndarray, momentum: float) -> None:
    """m_y <- mu m_y + (1 - mu) f, L2-normalised, image after image, in place.

    Args:
        f_BD: L2-normalised features of the whole global batch in its order, whichever process computed them.
        class_B: their classes, int64; on the host, so that nothing waits for the device.
    """
    turns = turns_of(class_B)
    # Images of different classes do not touch each other: all classes' first images at once, then the second ones.
    table = send(np.stack([np.concatenate(turns), class_B[np.concatenate(turns)]]), memory_KD.device)
    for images, classes in zip(*(row.split([len(turn) for turn in turns]) for row in table), strict=True):
        moved = momentum * memory_KD[classes] + (1 - momentum) * f_BD[images]
        memory_KD.index_copy_(0, classes, F.normalize(moved, dim=1))


def turns_of(class_B: np.ndarray) -> list[np.ndarray]:
    """The places of the first image of each class, of each second one, ...: int64 arrays, classes in them at most once."""
    order = np.argsort(class_B, kind="stable")
    first = np.concatenate([[True], np.diff(class_B[order]) != 0])
    nth = np.arange(len(order)) - np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    return [np.sort(order[nth == turn]) for turn in range(int(nth.max()) + 1)]


def gather_slices(processes: ProcessGroup, mine_bD: Tensor, group: int, total: int) -> Tensor:
    """Every process's slice of a global batch of ``total`` images, in its order: [total, D] in all of them.

    Slices are whole groups of ``group`` images, and not always equal: nodes may have been lost.
    """
    parts = [shard(total // group, rank, processes.world) for rank in range(processes.world)]
    sizes = [(part.stop - part.start) * group for part in parts]
    if min(sizes) == max(sizes):
        return processes.gather(mine_bD)
    padded = processes.gather(F.pad(mine_bD, (0, 0, 0, max(sizes) - len(mine_bD))))
    return torch.cat([rows[:size] for rows, size in zip(padded.chunk(processes.world), sizes, strict=True)])


def class_centers(processes: ProcessGroup, shard_nD: np.ndarray, labels_n: np.ndarray, classes: int) -> Tensor:
    """Each class's mean of the L2-normalised features that all processes hold, normalised: float32 [classes, D].

    Args:
        shard_nD: this process's features. labels_n: their classes, int64 in [0, classes).
    """
    unit_nD = F.normalize(torch.tensor(shard_nD, dtype=torch.float64, device="cpu"), dim=1)
    sums_KD = torch.zeros(classes, shard_nD.shape[1], dtype=torch.float64, device="cpu")
    sums_KD.index_add_(0, torch.tensor(labels_n, device="cpu"), unit_nD)
    return F.normalize(processes.mean(sums_KD.to(processes.device)), dim=1).float()

"""From the host's memory to a device's."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor


def pinned(x: Tensor, device: torch.device | str) -> Tensor:
    """In memory that a GPU fetches by itself, so that ``.to(device, non_blocking=True)`` does not wait; torch's pool reuses it."""
    return x.pin_memory() if torch.device(device).type == "cuda" and torch.cuda.is_available() else x


def send(x: Tensor | np.ndarray, device: torch.device | str) -> Tensor:
    """What a step needs: a GPU fetches it while the host goes on. On a CPU it is the very memory of ``x``."""
    return pinned(torch.as_tensor(x), device).to(device, non_blocking=True)


def keep(array_ND: np.ndarray, device: torch.device | str) -> Tensor:
    """What many steps look things up in: brought to a GPU once, unpinned, for it may be large. On a CPU it is the array's own
    memory, also where that is shared and read-only; nobody may write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.as_tensor(array_ND).to(device)

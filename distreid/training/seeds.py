"""Every random number is a function of (seed, round, epoch, step), never of history or of the number of workers.

What a run draws, by the third number of the seed sequence: 0 the order of the source's images, 1 the target's, 2 augmentation and
what networks draw themselves (dropout, drop path), 3 and above what a method draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

AUGMENTATION = 2


def epoch_seed(seed: int, round: int, epoch: int) -> list[int]:
    """Names an epoch."""
    return [seed, round, AUGMENTATION, epoch]


def seed_torch(seed: Sequence[int]) -> None:
    """Let torch's own generators, of every device, begin from a place that ``seed`` names."""
    start = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    torch.default_generator.manual_seed(start)
    if torch.cuda.is_initialized():  # where it is not, torch.manual_seed would note for later who asked: a millisecond each time
        torch.cuda.manual_seed_all(start)

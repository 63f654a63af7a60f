"""Past translations among those a discriminator judges: Shrivastava et al., "Learning from Simulated and Unsupervised Images
through Adversarial Training" (CVPR 2017), section 2.3, as CycleGAN uses it. The paper of EDAAN does not say whether it does.

CycleGAN keeps one pool of images. Here every place of the global batch has a history of its own, and what happens there depends on
(seed, epoch, step, place) alone: whichever worker the place falls to, it sees the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distreid.common.transfer import send
from distreid.data.sampling import shard
from distreid.training import ProcessGroup


class ImagePool:
    """The histories of this process's places, for each of a number of domains.

    Args:
        capacity: images a domain keeps over all places; a multiple of ``places``.
        places: images of one domain in the global batch.
        saved: what :meth:`state` gave, to continue from.
    """

    def __init__(self, capacity: int, places: int, team: ProcessGroup, saved: dict[str, Any] | None = None) -> None:
        self._depth, self._places, self._team = capacity // places, places, team
        self._mine = shard(places, team.rank, team.world)
        self._kept: list[Tensor] = []  # of each domain, [places here, depth, C, H, W]
        self._filled = 0  # of the depth, in every place
        if saved is not None and saved["filled"]:
            self._filled = int(saved["filled"])
            self._kept = [kept[self._mine].to(team.device) for kept in saved["kept"]]

    def exchange(self, fakes: Sequence[Tensor], seed: Sequence[int]) -> list[Tensor]:
        """New translations [places here, C, H, W] of each domain to those that its discriminator judges.

        Until a history is full it takes the image in, which is judged itself; then, with probability ½, the image takes the place
        of one of the history, and that one is judged.
        """
        if not self._depth:
            return list(fakes)
        if not self._kept:
            self._kept = [fake.new_zeros(len(fake), self._depth, *fake.shape[1:]) for fake in fakes]
        if self._filled < self._depth:
            for kept, fake in zip(self._kept, fakes, strict=True):
                kept[:, self._filled] = fake
            self._filled += 1
            return list(fakes)
        rng, entries = np.random.default_rng(list(seed)), []
        for _ in fakes:
            swapped = rng.random(self._places)[self._mine] < 0.5
            entries.append(np.where(swapped, rng.integers(self._depth, size=self._places)[self._mine], -1))
        # The entry of its history that each place takes, -1 for none: one table, whose size does not depend on what was drawn.
        table_DP, judged = send(np.stack(entries), fakes[0].device), []
        for kept, fake, entry_P in zip(self._kept, fakes, table_DP, strict=True):
            swapped_P111, at = (entry_P >= 0)[:, None, None, None], entry_P.clamp(min=0)[:, None, None, None, None]
            at = at.expand(-1, 1, *fake.shape[1:])
            old = kept.gather(1, at)[:, 0]
            kept.scatter_(1, at, torch.where(swapped_P111, fake, old)[:, None])
            judged.append(torch.where(swapped_P111, old, fake))
        return judged

    def state(self) -> dict[str, Any]:
        """The histories of all places, for a checkpoint. All processes must call it."""
        return {"filled": self._filled, "kept": [self._team.gather(kept) for kept in self._kept]}

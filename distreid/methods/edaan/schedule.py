"""EDAAN's schedule (Khatun et al., Implementation Details): what trains when, and how fast."""

from __future__ import annotations

from dataclasses import dataclass

from distreid.methods.edaan.config import EDAANConfig


@dataclass(frozen=True)
class Phase:
    """Epochs up to ``until`` in which the same networks train and the discriminators see the same."""

    until: int
    attention: bool  # the attention networks train
    masked: bool  # the discriminators see the attended region only


def phases(how: EDAANConfig) -> list[Phase]:
    """The paper's schedule, cut where something changes."""
    end = how.epochs + how.decay_epochs
    changes = {how.attention_epochs, how.whole_epochs} if how.attention else set()
    cuts = sorted({cut for cut in changes if 0 < cut < end} | {end})
    starts = [0, *cuts[:-1]]
    return [
        Phase(until, how.attention and start < how.attention_epochs, how.attention and start >= how.whole_epochs)
        for start, until in zip(starts, cuts, strict=True)
    ]


def linear_decay_factor(epoch: float, *, constant: int, decay: int) -> float:
    """1 for ``constant`` epochs, then linearly to 0 over ``decay`` more."""
    return 1.0 if epoch < constant else max(0.0, 1 - (epoch - constant) / decay)

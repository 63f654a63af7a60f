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


def phases(settings: EDAANConfig) -> list[Phase]:
    """The paper's schedule, cut where something changes."""
    end = settings.epochs + settings.decay_epochs
    changes = {settings.attention_epochs, settings.whole_epochs} if settings.attention else set()
    cuts = sorted({cut for cut in changes if 0 < cut < end} | {end})
    starts = [0, *cuts[:-1]]
    return [
        Phase(
            until, settings.attention and start < settings.attention_epochs, settings.attention and start >= settings.whole_epochs
        )
        for start, until in zip(starts, cuts, strict=True)
    ]


def linear_decay_factor(epoch: float, *, constant: int, decay: int) -> float:
    """1 for ``constant`` epochs, then linearly to 0 over ``decay`` more."""
    return 1.0 if epoch < constant else max(0.0, 1 - (epoch - constant) / decay)

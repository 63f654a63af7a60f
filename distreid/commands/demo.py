"""`distreid demo`."""

from __future__ import annotations

from pathlib import Path

from distreid.commands.options import Overrides
from distreid.config import Config

USUAL = Config().method


def demo(*overrides: Overrides, method: str = USUAL, out: Path | None = None, seed: int = 0) -> None:
    """Draw two camera networks, adapt a model from one to the other, write a report.

    Args:
        method: which one, by its name in a configuration.
        out: Run directory; runs/demo when empty, of another method than the usual one runs/demo-METHOD.
        seed: Of the drawing and of the training.
    """
    from distreid.actions.demo import demo as run

    run(out or Path("runs", "demo" if method == USUAL else f"demo-{method}"), method=method, seed=seed, overrides=list(overrides))

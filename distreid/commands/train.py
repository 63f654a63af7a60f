"""`distreid train`."""

from __future__ import annotations

from distreid.commands.options import Overrides


def train(config: str, /, *overrides: Overrides, resume: bool = False) -> None:
    """Run a method: here, or on the cluster that RAY_ADDRESS or a Ray job provides.

    Args:
        config: YAML file.
        resume: Continue the run in the output directory.
    """
    from distreid.actions.train import train as run
    from distreid.config import load_config

    run(load_config(config, list(overrides)), resume=resume)

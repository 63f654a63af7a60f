"""`distreid plan`."""

from __future__ import annotations

from pathlib import Path

from distreid.commands.options import Overrides
from distreid.common.terminal import show


def plan(
    config: str,
    /,
    *overrides: Overrides,
    nodes: int = 1,
    gpus: int = 1,
    images: int | None = None,
    queries: int | None = None,
    gallery: int | None = None,
    bench: tuple[Path, ...] = (),
) -> None:
    """Time and memory of a round on machines to come, from what bench measured on one like them.

    Args:
        config: YAML file.
        nodes: Machines.
        gpus: Of each node; one worker for each.
        images: Target images; those of the packed target when empty.
        queries: Test images; those of the packed target, or none, when empty.
        gallery: As --queries.
        bench: Output of `distreid bench --json`; repeatable.
    """
    from distreid.actions.plan import plan as estimate
    from distreid.actions.plan import read_figures, size_of
    from distreid.config import load_config

    settings = load_config(config, [*overrides, f"runtime.workers={nodes * gpus}"])
    size = size_of(settings, nodes, gpus, images, queries, gallery)
    show(estimate(settings, size, read_figures(list(bench))))

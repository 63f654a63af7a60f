"""`distreid plan`."""

from __future__ import annotations

from pathlib import Path

from distreid.commands.options import Json, Overrides
from distreid.common.terminal import show


def plan(
    config: str,
    /,
    *overrides: Overrides,
    nodes: int = 1,
    gpus: int = 1,
    device: str = "",
    images: int | None = None,
    queries: int | None = None,
    gallery: int | None = None,
    source_images: int | None = None,
    network: float = 10.0,
    decode: float = 2500.0,
    bench: tuple[Path, ...] = (),
    as_json: Json = False,
) -> None:
    """Time, memory and GPU-hours of a run on machines to come: a step of each stage is rehearsed on tensors without data.

    Args:
        config: YAML file.
        nodes: Machines.
        gpus: Of each node; one worker for each.
        device: What computes: h100, h200, a100, l4, 4090, or here: some steps of each stage are made and
            timed (seconds to a minute).
        images: Target images; those of the packed target when empty. Of a method without pseudo-labels: source images.
        queries: Test images; those of the packed target, or none, when empty.
        gallery: As --queries.
        source_images: Source images; those of the packed source when empty, Market-1501's where it is not there.
        network: Gbit/s between nodes.
        decode: Images a second that a worker decodes.
        bench: Output of `distreid bench --json`; repeatable. That of `train` says how fast the device is.
    """
    import json

    from distreid.actions.plan.inputs import domains_of, read_figures
    from distreid.actions.plan.price import Machines
    from distreid.actions.plan.price import plan as estimate
    from distreid.actions.plan.show import as_json as to_json
    from distreid.actions.plan.show import as_text
    from distreid.common.errors import UserError
    from distreid.config import load_config

    for name, value in (("--nodes", nodes), ("--gpus", gpus), ("--network", network), ("--decode", decode)):
        if value <= 0:
            raise UserError(f"{name} {value:g} must be greater than 0")
    settings = load_config(config, [*overrides, f"runtime.workers={nodes * gpus}"])
    figures = read_figures(list(bench))
    domains = domains_of(settings, images, queries, gallery, source_images)
    found = estimate(settings, Machines(nodes, gpus, network * 1.25e8, decode), domains, figures, device)
    if as_json:
        print(json.dumps(to_json(found)))
    else:
        show(as_text(found))

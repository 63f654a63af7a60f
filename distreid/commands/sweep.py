"""`distreid sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from distreid.commands.options import Many, Overrides
from distreid.common.terminal import show

ONLY = Parameter(group=Group("With --labels-only", sort_key=2))


def sweep(
    config: str,
    /,
    *overrides: Overrides,
    resume: bool = False,
    labels_only: bool = False,
    p: Annotated[list[float] | None, Many, ONLY] = None,
    min_samples: Annotated[list[int] | None, Many, ONLY] = None,
    k1: Annotated[int | None, ONLY] = None,
    k2: Annotated[int | None, ONLY] = None,
    device: Annotated[Literal["cpu", "cuda"], ONLY] = "cpu",
    out: Annotated[Path | None, ONLY] = None,
) -> None:
    """Run many settings of an experiment with Ray Tune, or label one set of features in many ways.

    Args:
        config: Sweep file; with --labels-only FEATURES.npy, a run, or a configuration.
        resume: Continue the sweep in the output directory; finished trials are kept.
        labels_only: A grid over p and min_samples on one set of features, in seconds.
        p: Proportions of all pairs; 16 values around the configuration's own when empty.
        min_samples: 2, 4, … 18 when empty.
        k1: Neighbours of the k-reciprocal encoding; the configuration's own when empty.
        k2: Of its query expansion; the configuration's own when empty.
        device: Where the labels are made.
        out: Folder of the results; beside the features, or in the run, when empty.
    """
    if not labels_only:
        from distreid.sweeps.run import sweep as run

        run(Path(config), list(overrides), resume=resume)
        return
    from distreid.sweeps.labels import sweep_labels

    show(sweep_labels(Path(config), list(overrides), out=out, ps=p, min_samples=min_samples, k1=k1, k2=k2, device=device))

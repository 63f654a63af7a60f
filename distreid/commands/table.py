"""`distreid table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from distreid.commands.options import Many, Overrides
from distreid.common.terminal import show


def table(
    name: str,
    /,
    *overrides: Overrides,
    run: bool = False,
    synthetic: Annotated[bool, Parameter(name=("--synthetic", "--drawn"))] = False,
    base: Path | None = None,
    seeds: Annotated[tuple[int, ...], Many] = (0,),
    data: Path = Path("data"),
    out: Path = Path("runs/tables"),
    format: Literal["text", "markdown", "csv", "latex"] = "text",
) -> None:
    """A paper's table, its figures beside ours.

    Args:
        name: daam-1 … daam-4, daam-figure-4 … daam-figure-6, edaan-1 … edaan-5; methods (needs --base).
        run: Run what is missing first; an interrupted table continues.
        synthetic: Ours on synthetic data, small enough for two cores.
        base: Ours on the data and the settings of this configuration, such as jobs/real/market-cameras.yaml.
        seeds: Ours is the mean over them.
        data: Folder of the packed data sets.
        out: Where our runs lie.
        format: Of what is printed.
    """
    from distreid.sweeps.tables import table as lay_out

    show(lay_out(name, list(overrides), synthetic=synthetic, base=base, seeds=seeds, data=data, out=out, run=run, form=format))

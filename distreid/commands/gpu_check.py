"""`distreid gpu-check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distreid.common.terminal import show


def gpu_check(*, n: int = 4000, large: int = 32_621, out: Annotated[Path | None, Parameter(name="--json")] = None) -> None:
    """Compare the labels that this machine's GPU makes with those of its CPU and of scikit-learn, and its re-ranking with the
    CPU's, in every stage; ends with 1 if anything differs.

    Args:
        n: Features of each of 24 cases.
        large: Features of a last one, which is also timed (2048 dimensions; the CPU needs a minute for the usual number); 0: none.
        out: Also write all of it to this JSON file.
    """
    from distreid.actions.gpu_check import gpu_check as run

    text, equal = run(n, large, out)
    show(text)
    if not equal:
        raise SystemExit(1)

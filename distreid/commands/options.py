"""Arguments that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from distreid.common.terminal import show

Overrides = Annotated[str, Parameter(help="``key=value`` changes of the configuration, such as ``adapt.rounds=3``.")]
Checkpoint = Annotated[str, Parameter(help="A run directory (its last finished round) or a checkpoint file; a path or a URI.")]
Flip = Annotated[bool, Parameter(help="Average the features of each image and its mirror image.")]
Rerank = Annotated[bool, Parameter(help="k-reciprocal re-ranking, in which queries see each other.")]
CameraNormalize = Annotated[
    bool,
    Parameter(help="Compare features less the mean of their camera's test images, over its deviation: no identity is looked at."),
]
PerQuery = Annotated[Path | None, Parameter(help="Also write every query's own figures to this Parquet file.")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON in place of text.")]
Pattern = Annotated[
    str,
    Parameter(
        help="Of the formats names, identities and folder: a regular expression for file names (with a / in it for paths) with the "
        "groups ``(?P<pid>…)`` and ``(?P<camid>…)``."
    ),
]
NoCameras = Annotated[bool, Parameter(help="Take every camera for unknown: tests leave out nothing but the query itself.")]
Many = Parameter(consume_multiple=True)  # a list as `--seeds 0 1 2`


def print_metrics(metrics: dict[str, Any], *, as_json: bool) -> None:
    """What `evaluate` and `score` found."""
    if as_json:
        print(json.dumps(metrics))
        return
    from distreid.report.text import metrics_text

    show(metrics_text(metrics))

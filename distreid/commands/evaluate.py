"""`distreid evaluate`."""

from __future__ import annotations

from distreid.commands.options import Checkpoint, Flip, Json, PerQuery, Rerank, print_metrics


def evaluate(
    checkpoint: Checkpoint,
    /,
    *,
    data: str | None = None,
    format: str = "market1501",
    flip: Flip = False,
    rerank: Rerank = False,
    per_query: PerQuery = None,
    as_json: Json = False,
) -> None:
    """Test a run or a checkpoint by the data set's protocol.

    Args:
        data: Packed file, or the data set's folder; the run's own target when empty.
        format: How to read --data when it is a folder: see `distreid pack --help`.
    """
    from distreid.actions.evaluate import evaluate as run
    from distreid.common.layout import model_files
    from distreid.common.mirror import on_this_machine

    metrics = run(on_this_machine(checkpoint, model_files), data, format, flip=flip, rerank=rerank, per_query=per_query)
    print_metrics(metrics, as_json=as_json)

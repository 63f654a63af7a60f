"""`distreid evaluate`."""

from __future__ import annotations

from distreid.commands.options import CameraNormalize, Checkpoint, Flip, Json, NoCameras, Pattern, PerQuery, Rerank, print_metrics


def evaluate(
    checkpoint: Checkpoint,
    /,
    *,
    data: str | None = None,
    format: str = "market1501",
    pattern: Pattern = "",
    no_cameras: NoCameras = False,
    flip: Flip = False,
    rerank: Rerank = False,
    camera_normalize: CameraNormalize = False,
    per_query: PerQuery = None,
    as_json: Json = False,
) -> None:
    """Test a run or a checkpoint by the data set's protocol.

    Args:
        data: Packed file, or the data set's folder or table; the run's own target when empty.
        format: How to read a folder or table: see `distreid pack --help`.
    """
    from distreid.actions.evaluate import evaluate as run
    from distreid.common.layout import model_files
    from distreid.common.mirror import on_this_machine

    place = on_this_machine(checkpoint, model_files)
    metrics = run(
        place, data, format, pattern=pattern, no_cameras=no_cameras, flip=flip, rerank=rerank, camera_normalize=camera_normalize,
        per_query=per_query,
    )  # fmt: skip
    print_metrics(metrics, as_json=as_json)

"""`distreid export`."""

from __future__ import annotations

from pathlib import Path

from distreid.commands.options import Checkpoint
from distreid.common.errors import UserError


def export(checkpoint: Checkpoint, out: Path, /, *, data: str | None = None, folders: Path | None = None) -> None:
    """Write for other programs what a run made: the matching network, checked against PyTorch, or its pseudo-labels.

    Args:
        out: NAME.safetensors or NAME.onnx, the network; or NAME.csv or .parquet, the last labels: index, path, camid where known,
            cluster (-1: in none), distance to its centre, silhouette.
        data: For labels: the run's packed target, if no longer where it was.
        folders: Beside labels: also make this folder, with one of pictures for each cluster.
    """
    from distreid.actions.label import TABLES, export_labels
    from distreid.common.layout import model_files, page_files
    from distreid.common.mirror import on_this_machine

    if out.suffix in TABLES:
        made = export_labels(on_this_machine(checkpoint, page_files), out, data=data, folders=folders)
        images, clusters, inside = len(made.labels.labels), made.labels.num_clusters, int((made.labels.labels >= 0).sum())
        print(f"{out}: labels of round {made.round}: {images:,} images, {clusters:,} clusters, {images - inside:,} in none")
        if folders is not None:
            print(f"pictures by cluster: {folders} ({made.folders})")
        return
    if data is not None or folders is not None:
        raise UserError(f"{out}: --data and --folders go with labels, NAME.csv or NAME.parquet")
    from distreid.actions.export import export as run

    done = run(on_this_machine(checkpoint, model_files), out)
    print(f"{done.path}: {done.size / 1e6:,.1f} MB, images -> {done.channels} features, of {done.checkpoint}")
    print(f"checked: features differ from PyTorch's by {done.difference:.0e} of the largest")

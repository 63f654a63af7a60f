"""`distreid export`."""

from __future__ import annotations

from pathlib import Path

from distreid.commands.options import Checkpoint


def export(checkpoint: Checkpoint, out: Path, /) -> None:
    """Write the matching network for other programs: safetensors or ONNX, checked against PyTorch.

    Args:
        out: NAME.safetensors or NAME.onnx.
    """
    from distreid.actions.export import export as run
    from distreid.common.layout import model_files
    from distreid.common.mirror import on_this_machine

    done = run(on_this_machine(checkpoint, model_files), out)
    print(f"{done.path}: {done.size / 1e6:,.1f} MB, images -> {done.channels} features, of {done.checkpoint}")
    print(f"checked: features differ from PyTorch's by {done.difference:.0e} of the largest")

"""From a configuration or a checkpoint to a network, of whichever method."""

from __future__ import annotations

from pathlib import Path

from distreid.config import Config, config_from_dict
from distreid.errors import UserError
from distreid.methods.registry import find
from distreid.models import ReIDNetwork, load_weights
from distreid.training import RunDirectory, load_tensors


def build_model(config: Config, identities: int, *, weights: bool = True) -> ReIDNetwork:
    """The network of a configuration; ``weights`` False where a checkpoint's follow."""
    return find(config.method).build_model(config, identities, weights=weights)


def load_model(path: Path) -> tuple[ReIDNetwork, Config, Path]:
    """The network of a checkpoint, or of a run's last finished round, in evaluation mode; its configuration; the file read."""
    file = last_round(path) if path.is_dir() else path
    saved = load_tensors(file)
    try:
        config, identities, weights = config_from_dict(saved["config"]), int(saved["identities"]), saved["model"]
    except (KeyError, TypeError):
        raise UserError(f"{file}: not a checkpoint of distreid") from None
    model = build_model(config, identities, weights=False)
    load_weights(model, weights, file)
    return model.eval(), config, file


def trained_on(file: Path) -> list[tuple[str, str]]:
    """What the checkpoint's model has seen: the packed file's hash and the selection, of the source and of the target."""
    contents = (content.partition(" ") for content in load_tensors(file).get("content", []))
    return [(digest, selection) for digest, _, selection in contents]


def last_round(run: Path) -> Path:
    """The weights at the end of a run's last finished round."""
    files = sorted(RunDirectory(run).checkpoints.glob("round-*.pt"))
    if not files:
        raise UserError(f"{run}: holds no finished round; give a run directory or a checkpoint file")
    return files[-1]

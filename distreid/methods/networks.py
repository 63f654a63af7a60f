"""From a configuration or a checkpoint to a network, of whichever method."""

from __future__ import annotations

from pathlib import Path

from distreid.common.errors import UserError
from distreid.common.layout import model_round
from distreid.config import Config
from distreid.methods.registry import find
from distreid.models import ReIDNetwork, load_weights
from distreid.training import RunDirectory, load_checkpoint
from distreid.training.files import trained_config


def build_model(config: Config, identities: int, *, weights: bool = True) -> ReIDNetwork:
    """The network of a configuration; ``weights`` False where a checkpoint's follow."""
    return find(config.method).build_model(config, identities, weights=weights)


def load_model(path: Path) -> tuple[ReIDNetwork, Config, Path]:
    """The network of a checkpoint, or of a run's :func:`kept_checkpoint`, in evaluation mode; its configuration; the file read."""
    file = kept_checkpoint(path) if path.is_dir() else path
    saved = load_checkpoint(file)
    if not {"config", "identities", "model"} <= saved.keys():
        raise UserError(f"{file}: not a checkpoint of distreid")
    config, identities = trained_config(saved), int(saved["identities"])
    model = build_model(config, identities, weights=False)
    load_weights(model, saved, file)
    return model.eval(), config, file


def trained_on(file: Path) -> list[tuple[str, str]]:
    """What the checkpoint's model has seen: the packed file's hash and the selection, of the source and of the target."""
    contents = (content.partition(" ") for content in load_checkpoint(file).get("content", []))
    return [(digest, selection) for digest, _, selection in contents]


def kept_checkpoint(run: Path) -> Path:
    """The weights at the end of a run's last finished round, or of the one that its rule has kept (`adapt.stop`)."""
    directory = RunDirectory(run)
    number = model_round(file.name for file in directory.checkpoints.glob("*"))
    if number is None:
        raise UserError(f"{run}: holds no finished round; give a run directory or a checkpoint file")
    return directory.round_checkpoint(number)

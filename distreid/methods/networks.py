"""From a configuration or a checkpoint to a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from distreid.config import Config, config_from_dict
from distreid.errors import UserError
from distreid.layout import round_files
from distreid.models import EDAAN, DAAMNet, Sizes, build_backbone, group_batchnorm
from distreid.models.backbone import IMAGENET_MEAN, IMAGENET_STD
from distreid.training import RunDirectory, load_checkpoint


def build_model(config: Config, identities: int, *, weights: bool = True) -> DAAMNet | EDAAN:
    """The network of a configuration; ``weights`` False where a checkpoint's follow."""
    return _build_edaan(config, identities) if config.method == "edaan" else _build_daam(config, identities, weights)


def _build_daam(config: Config, identities: int, weights: bool) -> DAAMNet:
    how = config.model
    size = config.input.height, config.input.width
    backbone = build_backbone(how.backbone, how.weights if weights else "none", how.last_stride, size)
    model = DAAMNet(
        backbone,
        identities,
        attention=how.attention,
        attention_start=how.attention_start,
        domain_branch=how.domain_branch,
        neck=how.neck,
    )
    group_batchnorm(model, how.batchnorm_group)
    return model


def _build_edaan(config: Config, identities: int) -> EDAAN:
    how, sizes = config.edaan, config.edaan.network
    model = EDAAN(
        identities,
        Sizes(**vars(sizes)),
        encoder={"edaan": "shared", "direct": "alone"}.get(how.variant, "own"),  # type: ignore[arg-type]
        attention=how.attention,
        feature=how.feature,
    )
    group_batchnorm(model, how.group * how.views)
    return model


def load_weights(model: DAAMNet | EDAAN, saved: dict[str, Any], path: Path) -> None:
    """Load a checkpoint's weights, making the target head that they hold, and the normalisation that they were trained with."""
    weights: dict[str, Tensor] = saved.get("model", {})
    if isinstance(model, DAAMNet):
        if "target_head.weight" in weights:
            model.new_target_head(len(weights["target_head.weight"]), seed=0)
        # 0.1.0 knew ImageNet's only, whatever the backbone.
        model.backbone.mean, model.backbone.std = saved.get("normalisation", (IMAGENET_MEAN, IMAGENET_STD))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: the weights do not fit the configured model ({reason})") from None


def load_model(path: Path) -> tuple[DAAMNet | EDAAN, Config, Path]:
    """The network of a checkpoint, or of a run's last finished round, in evaluation mode; its configuration; the file read."""
    file = last_round(path) if path.is_dir() else path
    saved = load_checkpoint(file)
    if not {"config", "identities", "model"} <= saved.keys():
        raise UserError(f"{file}: not a checkpoint of distreid")
    config, identities = config_from_dict(saved["config"]), int(saved["identities"])
    model = build_model(config, identities, weights=False)
    load_weights(model, saved, file)
    return model.eval(), config, file


def trained_on(file: Path) -> list[tuple[str, str]]:
    """What the checkpoint's model has seen: the packed file's hash and the selection, of the source and of the target."""
    contents = (content.partition(" ") for content in load_checkpoint(file).get("content", []))
    return [(digest, selection) for digest, _, selection in contents]


def last_round(run: Path) -> Path:
    """The weights at the end of a run's last finished round."""
    files = round_files(RunDirectory(run).checkpoints)
    if not files:
        raise UserError(f"{run}: holds no finished round; give a run directory or a checkpoint file")
    return files[-1]

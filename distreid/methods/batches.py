"""What the batches of `pretrain` and `adapt` ask of the configuration: groups, workers and identities must divide them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distreid.common.errors import UserError
from distreid.config import AdaptConfig, Config, PretrainConfig

if TYPE_CHECKING:
    from distreid.training.domains import DomainData


def check(config: Config, *, mixed: bool = True) -> None:
    """Combinations that cannot work. ``mixed``: half of a batch of `adapt` is source, half target; else all of it is target."""
    if config.adapt.stop == "auto" and config.evaluate.target and not config.evaluate.every_round:
        raise UserError(
            "adapt.stop=auto keeps a round that is not known beforehand, and evaluate.every_round=false measures the last one"
            " alone: set evaluate.every_round=true, or evaluate.target=false"
        )
    if mixed:
        _check_group(config)
    adapted = config.adapt.batch_size // 2 if mixed else config.adapt.batch_size
    stages: list[tuple[str, AdaptConfig | PretrainConfig, int]] = [("adapt", config.adapt, adapted)]
    if mixed:
        stages.insert(0, ("pretrain", config.pretrain, config.pretrain.batch_size))
    for name, settings, images in stages:
        _check_batch(config, f"{name}.batch_size", settings.batch_size)
        if settings.sampler == "pk" and images % settings.instances:
            raise UserError(
                f"{name}.instances={settings.instances} does not divide the {images} images of a domain in {name}.batch_size"
            )
    if config.loss.triplet:
        _check_triplet(config, mixed=mixed)


def _check_triplet(config: Config, *, mixed: bool) -> None:
    """Every group of images must hold tuples of each domain."""
    group, adapt, pretrain = config.model.batchnorm_group, config.adapt, config.pretrain
    stages: list[tuple[str, AdaptConfig | PretrainConfig, int]] = [("adapt", adapt, group // 2 if mixed else group)]
    if mixed and pretrain.epochs and not pretrain.checkpoint:
        stages.append(("pretrain", pretrain, group))
    for name, settings, images in stages:
        if settings.sampler != "pk":
            raise UserError(f"loss.triplet={config.loss.triplet} needs images of one person side by side: set {name}.sampler=pk")
        if images % settings.instances or settings.instances < 2 or images // settings.instances < 2:
            raise UserError(
                f"loss.triplet={config.loss.triplet} needs two people or more, of {name}.instances={settings.instances} images "
                f"each, 2 or more, among the {images} images of a domain in model.batchnorm_group={group}: change one of the two"
            )


def _check_group(config: Config) -> None:
    group = config.model.batchnorm_group
    if group % 2:
        raise UserError(f"model.batchnorm_group={group} must be even: half of its images are source, half target")


def _check_batch(config: Config, name: str, batch: int) -> None:
    workers, group, accumulate = max(1, config.runtime.workers), config.model.batchnorm_group, config.runtime.accumulate
    if batch % workers:
        raise UserError(f"{name}={batch} cannot be divided among runtime.workers={workers}: choose a multiple of {workers}")
    share = batch // workers
    if share % group:
        fitting = [g for g in range(2, share + 1, 2) if share % g == 0]  # even, as where domains mix
        hint = f"choose one of {fitting}" if fitting else f"choose a larger {name}"
        raise UserError(
            f"model.batchnorm_group={group} does not divide the {share} images of {name}={batch} that each of "
            f"{workers} worker(s) gets: {hint}"
        )
    for count in range(config.runtime.min_workers or workers, workers + 1):
        if accumulate > 1 and (batch // group) % (count * accumulate):
            raise UserError(
                f"runtime.accumulate={accumulate} does not divide what each of {count} worker(s) gets of the "
                f"{batch // group} groups (model.batchnorm_group={group}) of {name}={batch}"
            )


def check_data(config: Config, source: DomainData, target: DomainData) -> None:
    """Rounds of labelling need more target images than neighbours."""
    if config.adapt.rounds and len(target.train) <= config.labels.k1:
        raise UserError(f"{target.given}: {len(target.train)} target images are too few for labels.k1={config.labels.k1}")

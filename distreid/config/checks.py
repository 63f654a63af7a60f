"""Combinations that cannot work, found before anything starts. Bounds of single keys stand beside the keys."""

from __future__ import annotations

from distreid.common.errors import UserError
from distreid.config.data import DomainConfig
from distreid.config.model import ModelConfig
from distreid.config.root import METHODS, PARTS, Config
from distreid.config.training import AdaptConfig, LossConfig
from distreid.labels.settings import LabelSettings


def check(config: Config) -> None:
    """Raises UserError, one line that names the keys and says what to do."""
    _check_places(config)
    _check_labels(config)
    _check_parts(config)
    METHODS[config.method].check(config)
    _check_strategy(config)


def _check_places(config: Config) -> None:
    free = METHODS[config.method].source_free
    places = {"output": bool(config.output), "source.data": config.source.given, "target.data": config.target.given}
    for name, given in places.items():
        if not given and not (free and name == "source.data"):
            raise UserError(f"{name} is not set: give it in the configuration file or as {name}=PATH")
    _check_sets("source", config.source)
    _check_sets("target", config.target)
    if config.target.balance:
        raise UserError("target.balance is not possible: batches are balanced between labelled sets; use source.balance")
    if config.target.extra:
        raise UserError(
            "target.extra is not possible: extra images carry identities, and the target's stay unseen; use source.extra"
        )


def _check_sets(name: str, domain: DomainConfig) -> None:
    several = "also" if domain.also else "sets"
    if domain.sets is not None:
        if not domain.sets:
            raise UserError(f"{name}.sets is an empty list: name a data set")
        for number, one in enumerate(domain.sets):
            if not one.data:
                raise UserError(f"{name}.{number}.data is not set: each set of {name} names its file, folder or table")
        beside = next((key for key in ("data", "also", "pattern", "split") if getattr(domain, key) not in (None, "")), None)
        beside = beside or ("format" if domain.format != DomainConfig.format else None)
        if beside:
            raise UserError(f"{name}.sets goes without {name}.{beside}: each of its sets has its own ({name}.0.{beside}=…)")
    chosen = next((key for key in ("cameras", "identities", "extra") if getattr(domain, key) not in (None, "")), None)
    if domain.members() and chosen:
        own = f"; each set may choose its own ({name}.0.{chosen}=…)" if domain.sets and chosen != "extra" else ""
        raise UserError(
            f"{name}.{several} goes without {name}.{chosen}: cameras and identities of several sets are numbered anew{own}"
        )


def _check_labels(config: Config) -> None:
    settings = config.labels
    if settings.eps == "quality" and settings.p != LabelSettings().p:
        raise UserError(f"labels.eps=quality does not use labels.p={settings.p}: set labels.eps=proportion, or leave p out")
    if settings.neighbours != "exact" and (settings.camera_aware or settings.tasks > 1):
        raise UserError(
            f"labels.neighbours={settings.neighbours} goes with neither labels.camera_aware nor labels.tasks: use exact"
        )
    if settings.tasks > 1 and config.runtime.workers == 0:
        raise UserError(f"labels.tasks={settings.tasks} needs Ray: runtime.workers must be 1 or more")
    if settings.device == "cuda" and config.runtime.workers and config.runtime.label_gpus == 0:
        raise UserError(
            "labels.device=cuda needs a GPU for the labelling actor: set runtime.label_gpus to auto, or to a share such as 0.25"
        )


def _check_parts(config: Config) -> None:
    usual = {"model": ModelConfig(), "loss": LossConfig(), "adapt": AdaptConfig()}
    for part in PARTS:
        group, key = part.split(".")
        value = getattr(getattr(config, group), key)
        if part not in METHODS[config.method].parts and value != getattr(usual[group], key):
            having = ", ".join(name for name, settings in METHODS.items() if part in settings.parts)
            raise UserError(f"{part}={value} does not work with method={config.method}: leave it out, or take one of {having}")


def _check_strategy(config: Config) -> None:
    settings = config.runtime
    if settings.min_workers > settings.workers:
        raise UserError(f"runtime.min_workers={settings.min_workers} must not be above runtime.workers={settings.workers}")
    if settings.strategy == "ddp":
        return
    if config.model.teacher:
        raise UserError(
            f"model.teacher={config.model.teacher} does not work with runtime.strategy=deepspeed: use ddp, or no teacher"
        )
    if settings.workers == 0:
        raise UserError("runtime.strategy=deepspeed needs Ray workers: set runtime.workers to 1 or more, or runtime.strategy=ddp")
    if settings.precision == "fp16":
        raise UserError("runtime.precision=fp16 does not work with runtime.strategy=deepspeed: use bf16 or fp32")
    if settings.compile:
        raise UserError("runtime.compile=true does not work with runtime.strategy=deepspeed: set one of the two")

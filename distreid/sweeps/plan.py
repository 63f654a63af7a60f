"""A sweep file: which settings to try, checked before anything runs.

base: ../market-cameras.yaml        # a configuration beside this file; `synthetic`: the demo's networks, drawn for each seed
output: runs/figure-5               # key=value on the command line changes these top keys or the base's settings
set: {adapt.rounds: 3}              # changes to the base for all trials
search:                             # any key of the configuration
  labels.p: {grid: [1.0e-3, 2.0e-3]}
  seed: {grid: [0, 1, 2]}
  adapt.optimizer.lr_new: {loguniform: [1.0e-4, 1.0e-2]}
samples: 10                         # draws of choice, uniform and loguniform, for each point of the grid
seed: 0                             # of the draws
concurrency: 2                      # trials at a time; each gets its share of the cores (default 1)
scheduler: asha                     # stop what falls behind after a round, by `quality`; default: none
search_algorithm: optuna            # default: grid and random draws
loggers: [tensorboard]              # also mlflow, wandb
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from distreid.common.errors import UserError
from distreid.common.files import expand
from distreid.config import Config, canonical, config_from_dict, read_yaml, to_dict
from distreid.methods.registry import find

KEYS = ("base", "output", "set", "search", "samples", "seed", "concurrency", "scheduler", "search_algorithm", "loggers")
SCHEDULERS = ("none", "asha")
SEARCH_ALGORITHMS = ("random", "optuna")
KINDS = ("grid", "choice", "uniform", "loguniform")
SYNTHETIC = ("synthetic", "drawn")  # drawn: its name in 0.1.0
LOGGERS = ("tensorboard", "mlflow", "wandb")
# What the source model is a function of; trials that agree in it share one.
PRETRAINING = ("seed", "source", "input", "model", "pretrain")
Base = Callable[[int], dict[str, Any]]  # seed -> nested settings


@dataclass(frozen=True)
class Trial:
    """settings: dotted keys of the configuration. folder: where the trial lies, if not under the name of its settings."""

    settings: dict[str, Any]
    folder: str = ""

    @property
    def name(self) -> str:
        """Fit for a folder; the same for equal settings, however they are ordered and spelled, and for no others."""
        if self.folder:
            return self.folder
        settings = {key: canonical(key, self.settings[key]) for key in sorted(self.settings)}
        text = json.dumps(settings)
        words = "_".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in settings.items())
        readable = "".join(letter if letter.isalnum() or letter in "=._-" else "-" for letter in words)[:60]
        return f"{readable}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass
class Plan:
    """A sweep file, read and checked. `search` is for Optuna alone; otherwise `trials` holds every point."""

    output: Path
    base: Base
    trials: list[Trial]
    search: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    samples: int = 1
    seed: int = 0
    concurrency: int = 0  # 0: one, or as many as fit where runtime.cpus_per_worker is set
    scheduler: str = "none"
    search_algorithm: str = "random"
    loggers: tuple[str, ...] = ()
    synthetic: bool = False  # the base is the demo's pair of synthetic networks

    def found(self, trial: Trial) -> Trial:
        """The trial where the sweep's folder has it already: 0.1.0 named it by the order and the spelling of its settings."""
        folder = self.output / "trials"
        if not (folder / f"{trial.name}.json").exists():
            for file in sorted(folder.glob("*.json")):
                if Trial(json.loads(file.read_text(encoding="utf-8"))).name == trial.name:
                    return Trial(trial.settings, file.stem)
        return trial

    def config(self, trial: Trial) -> Config:
        """The whole configuration of a trial; its run lies in the sweep's folder."""
        output = self.output / "runs" / trial.name
        tree = self.base(int(trial.settings.get("seed", 0))) | {"output": str(output)}
        try:
            return config_from_dict(tree, [f"{key}={json.dumps(value)}" for key, value in trial.settings.items()], where="sweep")
        except UserError as error:
            raise UserError(f"trial {trial.name}: {error}") from None


def read_plan(file: Path, synthetic: Base, overrides: Sequence[str] = ()) -> Plan:
    """Read a sweep file. synthetic: the base named so. Raises UserError naming the file and the key."""
    tree = _read(file)
    tops = {key: value for key, value in (split_override(text) for text in overrides) if key in KEYS}
    tree |= tops
    unknown = [key for key in tree if key not in KEYS]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), KEYS, n=1)
        raise UserError(
            f"{file}: unknown key '{unknown[0]}'" + (f" (did you mean '{near[0]}'?)" if near else f" (valid: {', '.join(KEYS)})")
        )
    search = tree.get("search") or {}
    _check_search(file, search)
    samples, seed, concurrency = (
        _whole(file, tree, key, usual) for key, usual in (("samples", 1), ("seed", 0), ("concurrency", 0))
    )
    for key, allowed in (("scheduler", SCHEDULERS), ("search_algorithm", SEARCH_ALGORITHMS)):
        if tree.get(key, allowed[0]) not in allowed:
            raise UserError(f"{file}: {key}={tree[key]!r} must be one of {', '.join(allowed)}")
    loggers = tuple(tree.get("loggers") or ())
    if set(loggers) - set(LOGGERS):
        raise UserError(f"{file}: loggers must be among {', '.join(LOGGERS)}, not {', '.join(loggers)}")
    if not tree.get("output"):
        raise UserError(f"{file}: output is not set: name the folder of the sweep")
    changes = [text for text in overrides if split_override(text)[0] not in KEYS]
    changes = [f"{key}={json.dumps(value)}" for key, value in (tree.get("set") or {}).items()] + changes
    optuna = tree.get("search_algorithm") == "optuna"
    if optuna and any("grid" in settings for settings in search.values()):
        raise UserError(f"{file}: search_algorithm=optuna draws every key: write choice, uniform or loguniform in place of grid")
    plan = Plan(
        output=Path(expand(str(tree["output"]), "output")).resolve(),
        base=_changed(_base(file, tree.get("base"), synthetic), changes),
        trials=[] if optuna else [Trial(settings) for settings in points(search, samples, seed)],
        search=search,
        samples=samples,
        seed=seed,
        concurrency=concurrency,
        scheduler=tree.get("scheduler", "none"),
        search_algorithm=tree.get("search_algorithm", "random"),
        loggers=loggers,
        synthetic=tree.get("base") in SYNTHETIC,
    )
    plan.trials = [plan.found(trial) for trial in plan.trials]
    for trial in plan.trials or [Trial(settings) for settings in points(search, 1, seed)]:
        plan.config(trial)
    return plan


def points(search: dict[str, dict[str, list[Any]]], samples: int, seed: int) -> list[dict[str, Any]]:
    """Every point of the grid, with `samples` draws of the other keys for each; the same for the same seed."""
    random = np.random.default_rng(seed)
    grids = {key: settings["grid"] for key, settings in search.items() if "grid" in settings}
    drawn = {key: settings for key, settings in search.items() if "grid" not in settings}
    found = []
    for _ in range(samples if drawn else 1):
        for values in itertools.product(*grids.values()):
            point = dict(zip(grids, values, strict=True)) | {key: _draw(settings, random) for key, settings in drawn.items()}
            if point not in found:
                found.append({key: point[key] for key in search})
    return found


def _draw(settings: dict[str, list[Any]], random: np.random.Generator) -> Any:
    (kind, values), *_ = settings.items()
    if kind == "choice":
        return values[int(random.integers(len(values)))]
    low, high = values
    value = random.uniform(low, high) if kind == "uniform" else np.exp(random.uniform(np.log(low), np.log(high)))
    return float(f"{value:.4g}")


def shared_pretraining(plan: Plan, trials: Sequence[Trial]) -> dict[str, str]:
    """{trial's name: name of its source model} for those that share one with another trial, or whose source model is there."""
    keys: dict[str, str] = {}
    for trial in trials:
        config = plan.config(trial)
        if find(config.method).source_model and not config.pretrain.checkpoint:
            tree = to_dict(_source_model(config))
            own = {config.method: tree[config.method]} if config.method in tree else {}  # the method's own group, if it has one
            what = {key: tree[key] for key in PRETRAINING} | {"precision": config.runtime.precision} | own
            if config.loss.triplet:  # the one loss that both stages have
                what["triplet"] = [config.loss.triplet, config.loss.triplet_margin]
            keys[trial.name] = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
    names = list(keys.values())
    return {trial: name for trial, name in keys.items() if names.count(name) > 1 or (plan.output / "pretrained" / name).exists()}


def _source_model(config: Config) -> Config:
    source_model = find(config.method).source_model
    return config if source_model is None else source_model(config)


def pretraining(config: Config, folder: Path) -> Config:
    """The run that makes the source model of a trial."""
    config = _source_model(config)
    return dataclasses.replace(config, output=str(folder), adapt=dataclasses.replace(config.adapt, rounds=0))


def _read(file: Path) -> dict[str, Any]:
    tree = read_yaml(file, "sweep file")
    if not isinstance(tree, dict) or not isinstance(tree.get("search"), dict):
        raise UserError(f"{file}: not a sweep: it needs a group `search` of keys to try (and `base`, `output`)")
    return tree


def _check_search(file: Path, search: dict[str, Any]) -> None:
    for key, settings in search.items():
        kinds = list(settings) if isinstance(settings, dict) else []
        if len(kinds) != 1 or kinds[0] not in KINDS or not isinstance(settings[kinds[0]], list) or not settings[kinds[0]]:
            raise UserError(f"{file}: search.{key} must be one of {', '.join(KINDS)} with a list, for example {{grid: [1, 2]}}")
        values = settings[kinds[0]] = [_read_number(canonical(key, value)) for value in settings[kinds[0]]]
        if kinds[0] in ("uniform", "loguniform"):
            bounds = [value if isinstance(value, (int, float)) else float("nan") for value in values]
            if len(bounds) != 2 or not bounds[0] < bounds[1] or (kinds[0] == "loguniform" and bounds[0] <= 0):
                raise UserError(
                    f"{file}: search.{key}: {kinds[0]} needs [low, high] with low < high" + ", above 0" * (kinds[0] == "loguniform")
                )


def _read_number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 (no dot) as text."""
    if isinstance(value, str) and value[:1] in "0123456789.+-" and value:
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _whole(file: Path, tree: dict[str, Any], key: str, usual: int) -> int:
    value = tree.get(key, usual)
    if type(value) is not int or value < 0 or (key == "samples" and value < 1):
        raise UserError(f"{file}: {key}={value!r} must be a whole number")
    return value


def split_override(text: str) -> tuple[str, Any]:
    """key=value, the value as YAML reads it."""
    key, separator, value = text.partition("=")
    if not separator:
        raise UserError(f"'{text}' is not an override: write key=value, for example adapt.epochs=3")
    return key, yaml.safe_load(value)


def read_base(path: Path) -> dict[str, Any]:
    """A configuration file as it stands there."""
    try:
        tree = read_yaml(path, "configuration file")
    except UserError as error:
        raise UserError(f"base {path} cannot be read ({str(error).removeprefix(f'{path}: ')})") from None
    if not isinstance(tree, dict):
        raise UserError(f"base {path} is not a configuration")
    return tree


def _base(file: Path, name: Any, synthetic: Base) -> Base:
    if name in SYNTHETIC:
        return synthetic
    if not isinstance(name, str):
        raise UserError(f"{file}: base must be a configuration file, or synthetic")
    tree = read_base(file.parent / expand(name, "base"))
    return lambda seed: dict(tree)


def _changed(base: Base, changes: Sequence[str]) -> Base:
    """The base with key=value changes."""
    if not changes:
        return base

    def changed(seed: int) -> dict[str, Any]:
        tree = base(seed)
        usual = tree.get("output")
        return to_dict(config_from_dict(tree | {"output": usual or "unset"}, list(changes), where="sweep"))

    return changed

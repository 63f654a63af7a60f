"""From YAML and ``key=value`` overrides to a checked configuration, and back."""

from __future__ import annotations

import dataclasses
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from distreid.common.errors import UserError
from distreid.common.files import expand
from distreid.common.settings import explain, keys_of, type_at
from distreid.common.text import plural
from distreid.config.checks import check
from distreid.config.root import METHODS, Config, file_model, own_groups
from distreid.config.sets import long_key, written_out


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, apply ``key=value`` overrides, check every key, type and combination."""
    tree = read_yaml(Path(path), "configuration file")
    return config_from_dict({} if tree is None else tree, overrides, where=str(path))


def read_yaml(path: Path, kind: str) -> Any:
    """What a YAML file holds. Raises `UserError`, which says that no ``kind`` is there, or why it is none."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such {kind}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not a {kind}; give a YAML file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: no text in UTF-8, so not a {kind}; give a YAML file, or save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except yaml.YAMLError as error:
        found = " ".join(str(error).replace(' in "<unicode string>"', "").split())
        raise UserError(f"{path}: not valid YAML ({found})") from None


def config_from_dict(tree: Any, overrides: list[str] | None = None, where: str = "configuration") -> Config:
    """Build a checked Config from nested dictionaries plus ``key=value`` overrides."""
    if not isinstance(tree, dict):
        raise UserError(f"{where}: expected keys and values at the top level, found {type(tree).__name__}")
    tree = _copy(tree)
    method = _method(tree, overrides or [])
    todays_names(tree, method, where)
    written_out(tree)
    for override in overrides or []:
        _apply_override(tree, override, method)
        written_out(tree)
    _fill_in(tree)
    try:
        config = _build(tree)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, file_model())}") from None
    _expand_places(config)
    check(config)
    return config


def canonical(key: str, value: Any) -> Any:
    """The value of a dotted key as a configuration holds it (1e-3, 0.001 and "1e-3" are one), or as it is where it is not valid."""
    tree = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    try:
        found = to_dict(_build(tree))
    except ValidationError:
        return value
    for part in key.split("."):
        found = found[part]
    return value if isinstance(found, dict) else found


def to_dict(config: Config) -> dict[str, Any]:
    """Nested dictionaries as a file holds them, every default written out."""
    tree: dict[str, Any] = {}
    for key, value in dataclasses.asdict(config).items():
        tree |= value if key == "groups" else {key: value}
    return tree


def to_yaml(config: Config) -> str:
    """The resolved configuration, every default written out."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def _build(tree: dict[str, Any]) -> Config:
    model = file_model()
    keys = dict(model.model_validate(_without_empty_groups(tree, model)))
    return Config(**{name: keys.pop(name) for name in list(keys) if name not in own_groups()}, groups=keys)


def _without_empty_groups(tree: dict[Any, Any], kind: Any) -> dict[Any, Any]:
    """`adapt:` with nothing below it means its defaults."""
    kinds = keys_of(kind)
    return {
        key: _without_empty_groups(value, kinds.get(key)) if isinstance(value, dict) else value
        for key, value in tree.items()
        if not (value is None and keys_of(kinds.get(key)))
    }


def _expand_places(config: Config) -> None:
    """``~`` and ``$NAME`` in what is a path."""
    for domain, name in ((config.source, "source"), (config.target, "target")):
        domain.data, domain.extra = expand(domain.data, f"{name}.data"), expand(domain.extra, f"{name}.extra")
        domain.also = domain.also and [expand(place, f"{name}.also") for place in domain.also]
        for number, one in enumerate(domain.sets or []):
            one.data = expand(one.data, f"{name}.{number}.data")
    config.output = expand(config.output, "output")
    config.model.weights = expand(config.model.weights, "model.weights")
    config.pretrain.checkpoint = expand(config.pretrain.checkpoint, "pretrain.checkpoint")


_named: set[str] = set()  # old keys that a person was told of


def _method(tree: dict[Any, Any], overrides: list[str]) -> Any:
    """The method that a file and the overrides ask for; None where they leave it to the default."""
    given = [override.partition("=")[2] for override in overrides if override.startswith("method=")]
    return given[-1] if given else tree.get("method")


def _name_today(group: str, key: str) -> str:
    """A key's present name, dotted; of an old one a person is told once."""
    new = METHODS[group].renamed.get(key) if group in METHODS else None
    if new is None:
        return f"{group}.{key}" if group else key
    new = new if "." in new else f"{group}.{new}"
    if key not in _named:
        _named.add(key)
        logging.getLogger(__name__).warning("%s.%s is now called %s", group, key, new)
    return new


def todays_names(tree: dict[Any, Any], method: Any, where: str = "configuration") -> None:
    """Bring the keys of methods' groups under their present names, in place.

    One that has moved to a common group says nothing there of runs of another ``method``, whose files hold its default too.
    """
    for group, settings in METHODS.items():
        own = tree.get(group)
        if not isinstance(own, dict):
            continue
        for old in [old for old in settings.renamed if old in own]:
            value = own.pop(old)
            if "." in settings.renamed[old] and group != method:
                continue
            place, leaf = _place(tree, _name_today(group, old))
            if place is None:
                continue  # a group of another kind: a mistake that is told later
            if leaf in place:
                raise UserError(f"{where}: {group}.{old} is {_name_today(group, old)} under its old name: give one of the two")
            place[leaf] = value


def _fill_in(tree: dict[Any, Any]) -> None:
    """The method's own defaults of the common groups, where the tree has none."""
    method = tree.get("method")
    labels = tree.get("labels")
    if isinstance(labels, dict) and "p" in labels:
        labels.setdefault("eps", "proportion")  # who writes p means it to be used
    for key, value in METHODS[method].defaults.items() if isinstance(method, str) and method in METHODS else ():
        place, leaf = _place(tree, key)
        if place is not None:
            place.setdefault(leaf, value)


def _place(tree: dict[Any, Any], key: str) -> tuple[dict[Any, Any] | None, str]:
    """The group that a dotted key stands in, made where it is missing, and the key's last part; None where it is no group."""
    *parents, leaf = key.split(".")
    group: Any = tree
    for parent in parents:
        if group.get(parent) is None:
            group[parent] = {}
        group = group[parent]
        if not isinstance(group, dict):
            return None, leaf  # a mistake that is told later
    return group, leaf


def _copy(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_copy(value) for value in tree]
    return {key: _copy(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _apply_override(tree: dict[str, Any], override: str, method: Any) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(f"'{override}' is not an override: write key=value, for example adapt.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{key}={text}: the value is not valid YAML") from None
    *parents, leaf = long_key(key.split("."))
    named = ".".join(parents)
    *parents, leaf = _name_today(named, leaf).split(".")
    if not text and type_at(Config, [*parents, leaf]) is str:
        value = ""  # `pretrain.checkpoint=` takes back what the file says
    if named in METHODS and parents != [named] and named != method:
        return  # moved to a common group: it says nothing there of another method
    group: Any = tree
    for parent, following in pairwise([*parents, leaf]):
        if isinstance(group, list):
            group = group[_place_in_list(key, parent, len(group))]
        else:
            if group.get(parent) is None:
                if parent == "sets" and following.isdigit():
                    raise UserError(f"{key}: {parents[0]} is no list of data sets; make it one: {parents[0]}=[PATH, PATH]")
                group[parent] = {}
            group = group[parent]
        if not isinstance(group, dict) and not (isinstance(group, list) and parent == "sets"):
            raise UserError(f"{key}: '{parent}' is a group of keys, found {group!r}")
    group[_place_in_list(key, leaf, len(group)) if isinstance(group, list) else leaf] = value


def _place_in_list(key: str, part: str, length: int) -> int:
    """Of a list's value that an override changes."""
    if not part.isdigit() or int(part) >= length:
        raise UserError(f"{key}: a list of {plural(length, 'data set')}; name one by its number, from 0 to {length - 1}")
    return int(part)

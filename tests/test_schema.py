"""`distreid schema`: what an editor is told is what the configuration takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from distreid.cli import main
from distreid.config import config_from_dict, json_schema, to_dict
from distreid.sweeps.schema import sweep_schema

ROOT = Path(__file__).parent.parent
FILES = [file for file in sorted((ROOT / "jobs").rglob("*.yaml")) if file.parent.name != "sweeps"]
FILES += sorted((ROOT / "distreid" / "methods").glob("*/demo.yaml"))
SWEEPS = sorted((ROOT / "jobs").rglob("sweeps/*.yaml"))
BASE = {"output": "runs/x", "source": {"data": "a.arrow"}, "target": {"data": "b.arrow"}}


def faults(tree: dict[str, Any]) -> list[str]:
    return [error.json_path for error in Draft202012Validator(json_schema()).iter_errors(tree)]


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_names_the_schema_and_keeps_to_it(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    place = (file.parent / first.partition("=")[2]).resolve()
    assert place == ROOT / "jobs" / "schema.json"
    tree = yaml.safe_load(file.read_text())
    # Draft 7 is what editors take a schema for that names none.
    assert not faults(tree) and not list(Draft7Validator(json.loads(place.read_text())).iter_errors(tree))


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_sweep_file_names_its_schema_and_keeps_to_it(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    assert (file.parent / first.partition("$schema=")[2]).resolve() == ROOT / "jobs" / "sweep.schema.json"
    assert not list(Draft7Validator(sweep_schema()).iter_errors(yaml.safe_load(file.read_text())))


@pytest.mark.parametrize(
    "change",
    [
        {"serch": {}},
        {"search": {"labels.q": {"grid": [1]}}},
        {"search": {"labels.p": {"gird": [1.0e-3]}}},
        {"search": {"labels.p": {"grid": []}}},
        {"search": {"labels.p": {"grid": [1.0e-3], "choice": [1.0e-3]}}},
        {"search": {"labels.min_samples": {"grid": [0]}}},
        {"search": {"labels.p": {"uniform": [1.0e-3]}}},
        {"set": {"adapt.rounds": "three"}},
        {"samples": 0},
        {"scheduler": "ahsa"},
        {"loggers": ["wandbb"]},
    ],
    ids=str,
)
def test_a_mistake_in_a_sweep_file_is_marked(change: dict[str, Any]) -> None:
    valid = {"base": "synthetic", "output": "runs/x", "search": {"labels.p": {"grid": [1.0e-3]}}}
    schema = Draft7Validator(sweep_schema())
    assert not list(schema.iter_errors(valid))
    assert list(schema.iter_errors(valid | change))


def test_all_defaults_keep_to_it() -> None:
    assert faults(to_dict(config_from_dict(BASE))) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("adapt.epoch", 3),
        ("nonsense", 1),
        ("adapt.epochs", "3"),
        ("adapt.epochs", 2.5),
        ("adapt.epochs", -1),
        ("adapt", [3]),
        ("adapt.optimizer.momentum", 1.0),
        ("input.flip", 1.5),
        ("model.attention", "sharde"),
        ("model.neck", 1),
        ("labels.p", 0),
        ("method", "damm"),
        ("source.identities", [1]),
        ("source", [3]),
        ("source", ["a.arrow", {"dta": "b.arrow"}]),
        ("source.sets", [{"data": "a.arrow", "cameras": ["one"]}]),
        ("runtime.channels_last", "yes"),
        ("runtime.channels_last", 1),
        ("edaan.network.width", 0),
        ("edaan.atention", True),
    ],
)
def test_a_mistake_is_marked(key: str, value: Any) -> None:
    assert faults(nested(key, value)), "the schema takes it"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("adapt", None),
        ("adapt.optimizer", None),
        ("source.cameras", None),
        ("source.identities", [0, 376]),
        ("target", ["a.arrow", {"data": "b", "format": "names", "cameras": [1]}]),
        ("labels.p", 1.0e-3),
        ("runtime.gpu", "no"),
        ("runtime.gpu", False),  # `no` to YAML 1.1
        ("runtime.channels_last", "auto"),
        ("runtime.channels_last", True),
        ("runtime.channels_last", False),
        ("edaan.kept_view", True),  # 0.1.0
    ],
)
def test_what_a_file_may_say_is_not_marked(key: str, value: Any) -> None:
    assert not faults(nested(key, value))
    ((group, inner),) = nested(key, value).items()
    config_from_dict(BASE | {group: BASE.get(group, {}) | inner if isinstance(inner, dict) else inner})


def test_every_key_has_its_meaning_and_default() -> None:
    schema = json_schema()
    for name, group in [("", schema), *schema["$defs"].items()]:
        assert name == "" or group["description"], name
        for key, told in group["properties"].items():
            assert "$ref" in told or (told["description"] and "default" in told), f"{name} {key}"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["schema"])
    assert json.loads(capsys.readouterr().out) == json_schema()
    main(["schema", "--method", "daam", "--out", str(tmp_path / "new" / "s.json")])
    schema = json.loads((tmp_path / "new" / "s.json").read_text())
    assert capsys.readouterr().out == "" and "edaan" not in json.dumps(schema)
    Draft202012Validator.check_schema(schema)
    assert not list(Draft202012Validator(schema).iter_errors(BASE | {"method": "daam"}))
    assert list(Draft202012Validator(schema).iter_errors(BASE | {"method": "edaan"}))
    main(["schema", "--method", "edaan"])
    assert "edaan" in json.loads(capsys.readouterr().out)["properties"]
    main(["schema", "--sweep"])
    assert json.loads(capsys.readouterr().out) == sweep_schema()
    for arguments, line in (
        (["--method", "edan"], "method=edan is unknown: choose one of "),
        (["--method", "daam", "--sweep"], "--sweep and --method: a sweep file has the keys of all methods"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["schema", *arguments])
        assert caught.value.code == 2 and capsys.readouterr().err.startswith(f"distreid: {line}")

"""A sweep file as a JSON schema: an editor completes the keys that can be searched, and marks mistakes."""

from __future__ import annotations

from typing import Any

from distreid.config import json_schema
from distreid.sweeps.plan import KEYS, KINDS, LOGGERS, SCHEDULERS, SEARCH_ALGORITHMS, SYNTHETIC

_TOP: dict[str, dict[str, Any]] = {
    "base": {"type": "string", "description": f"a configuration beside this file, or {SYNTHETIC[0]}: the demo's networks, drawn"},
    "output": {"type": "string", "description": "the folder of the sweep"},
    "samples": {
        "type": "integer",
        "minimum": 1,
        "default": 1,
        "description": "draws of what is no grid, for each of its points",
    },
    "seed": {"type": "integer", "minimum": 0, "default": 0, "description": "of the draws"},
    "concurrency": {"type": "integer", "minimum": 0, "default": 0, "description": "trials at a time; 0: one, or as many as fit"},
    "scheduler": {"enum": list(SCHEDULERS), "default": SCHEDULERS[0], "description": "asha: stop what falls behind after a round"},
    "search_algorithm": {"enum": list(SEARCH_ALGORITHMS), "default": SEARCH_ALGORITHMS[0], "description": "who draws"},
    "loggers": {"type": "array", "items": {"enum": list(LOGGERS)}, "description": "where else the trials' figures go"},
}


def sweep_schema() -> dict[str, Any]:
    """The schema; `set` and `search` know every dotted key of the configuration, with its meaning, type and bounds."""
    settings = _dotted()
    own = {
        "set": {"properties": settings, "description": "changes to the base for all trials"},
        "search": {
            "properties": {key: _searched(value) for key, value in settings.items()},
            "description": "the keys to try, each with a grid, choices or bounds",
        },
    }
    closed = {"type": "object", "additionalProperties": False}
    return closed | {
        "title": "Sweep",
        "properties": {key: _TOP[key] if key in _TOP else own[key] | closed for key in KEYS},
        "required": ["search"],
        "$defs": {"SetConfig": json_schema()["$defs"]["SetConfig"]},  # source.sets is a list of them
    }


def _dotted() -> dict[str, dict[str, Any]]:
    """Schema of each setting by its dotted key."""
    schema = json_schema()

    def below(prefix: str, group: dict[str, Any]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name, value in group["properties"].items():
            if "$ref" in value:
                found |= below(f"{prefix}{name}.", schema["$defs"][value["$ref"].rsplit("/", 1)[-1]])
            else:
                found[prefix + name] = value
        return found

    return below("", schema)


def _searched(setting: dict[str, Any]) -> dict[str, Any]:
    """{grid: [...]} and the like of one setting."""
    values = {key: value for key, value in setting.items() if key not in ("description", "default")}
    bounds = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    kinds = {kind: bounds if "uniform" in kind else {"type": "array", "items": values, "minItems": 1} for kind in KINDS}
    one = {"type": "object", "additionalProperties": False, "properties": kinds, "minProperties": 1, "maxProperties": 1}
    return one | {"description": setting["description"]}

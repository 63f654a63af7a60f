"""The configuration as a JSON schema: with it an editor completes keys and marks mistakes."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from distreid.config.root import METHODS, file_model, own_groups


class _WithoutTitles(GenerateJsonSchema):
    """Keys need no titles: they are read by their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(*methods: str) -> dict[str, Any]:
    """Keys, types, choices, bounds, defaults and meanings; with the groups of all methods, or of those that are named.

    Old names of keys are in it, marked as deprecated. A group may be empty, as in a file. No key is required, since any can
    be given on the command line.
    """
    schema = file_model(*methods).model_json_schema(schema_generator=_WithoutTitles)
    groups = schema["$defs"]
    for group in groups.values():
        del group["title"]
        group["type"] = ["object", "null"]
    # The short forms of `distreid.config.sets`.
    groups["SetConfig"]["type"] = ["object", "string"]
    groups["DomainConfig"] |= {"type": ["object", "array", "null"], "items": {"$ref": "#/$defs/SetConfig"}}
    for method in own_groups():
        if method in schema["properties"]:
            keys = groups[schema["properties"][method]["$ref"].rsplit("/", 1)[-1]]["properties"]
            for old, new in METHODS[method].renamed.items():
                group, _, key = new.rpartition(".")  # of a common group where it is dotted
                today = groups[schema["properties"][group]["$ref"].rsplit("/", 1)[-1]]["properties"] if group else keys
                keys[old] = today[key] | {"deprecated": True, "description": f"now {new}"}
    return schema

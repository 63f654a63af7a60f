"""What all groups of settings share: they are dataclasses that pydantic checks, when they are made and when a value is changed.

`Whole`, `Number` and `Switch` are int, float and bool without pydantic's obliging conversions: no text or 1.0 for a whole
number, no 1 for true. YAML's `1e-3`, which YAML 1.1 reads as text, is a number.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal, LiteralString, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

LARGEST = 2**63 - 1
"""Of whole numbers: arrays and checkpoints keep them in 64 bits."""
SETTINGS = ConfigDict(extra="forbid", allow_inf_nan=False, validate_assignment=True)


def _whole(value: Any) -> Any:
    if isinstance(value, bool | str | bytes | float):
        raise PydanticCustomError("int_type", "not a whole number")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise PydanticCustomError("beyond", "more than a checkpoint can hold")
    return value


def _switch_or_text(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise PydanticCustomError("literal_error", "not among the choices")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool | bytes):
        raise PydanticCustomError("float_type", "not a number")
    return value


def _or_number(word: LiteralString, kind: LiteralString = "a number of 0 or more") -> WrapValidator:
    """One line in place of one for each kind that the value might have been."""

    def check(value: Any, checked: ValidatorFunctionWrapHandler) -> Any:
        try:
            return checked(value)
        except ValidationError:
            raise PydanticCustomError("or_number", "neither {word} nor {kind}", {"word": word, "kind": kind}) from None

    return WrapValidator(check)


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
AutoOrNumber = Annotated[Literal["auto"] | Annotated[Number, Field(ge=0)], _or_number("auto")]
AutoOrWhole = Annotated[Literal["auto"] | Annotated[Whole, Field(gt=0)], _or_number("auto", "a whole number greater than 0")]
SoftOrNumber = Annotated[Literal["soft"] | Annotated[Number, Field(ge=0)], _or_number("soft")]
Switch = Annotated[bool, Strict()]
# For a Literal of whole numbers, and of texts and booleans: pydantic takes 1, 1.0 and true for one choice.
ONLY_WHOLE, SWITCH_OR_TEXT = BeforeValidator(_whole), BeforeValidator(_switch_or_text)


@cache
def keys_of(kind: Any) -> dict[str, Any]:
    """The keys of a group (a dataclass or a model) and their types; none of anything else."""
    is_group = dataclasses.is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel))
    return get_type_hints(kind) if is_group else {}


def all_keys(kind: Any, prefix: str = "") -> list[str]:
    """Every key of a group and of the groups in it, dotted."""
    found = []
    for name, inner in keys_of(kind).items():
        found += all_keys(inner, f"{prefix}{name}.") if keys_of(inner) else [prefix + name]
    return found


def explain(error: ValidationError, kind: Any, prefix: str = "") -> str:
    """What pydantic found wrong first, as one line that names the key as the user writes it: "labels.k1=0 must be greater than 0".

    Args:
        kind: the group that was to be made.
        prefix: of the group, such as "labels.".
    """
    first = error.errors(include_url=False)[0]
    problem, value, context = first["type"], first["input"], first.get("ctx", {})
    path = _named(first["loc"], whole=problem == "dataclass_type")
    if problem in ("unexpected_keyword_argument", "extra_forbidden", "invalid_key"):
        *parents, key = path
        return f"unknown key '{prefix}{'.'.join((*parents, key))}'{_nearest(key, parents, kind, prefix)}"
    name, inner = prefix + ".".join(path), type_at(kind, path)
    if problem == "value_error":  # a message of ours: of a group, in which keys stand as key=value, or of one key
        message = str(context["error"])
        return re.sub(r"\b(?=\w+=)", f"{name}." if path else prefix, message) if keys_of(inner) else f"{name}={value!r} {message}"
    if problem == "dataclass_type":
        return f"{name} is a group of keys ({', '.join(keys_of(inner))}), found {value!r}"
    if problem == "literal_error":
        return f"{name}={value!r} must be one of {_choices(value, inner)}"
    for head, text in _PROBLEMS.items():
        if problem.startswith(head):
            return f"{name}={value!r} {text.format(**context)}"
    return f"{name}={value!r}: {first['msg']}"


# Heads of pydantic's error types.
_PROBLEMS = {
    "or_number": "must be {word}, or {kind}",
    "greater_than_equal": "must be {ge:g} or more",
    "greater_than": "must be greater than {gt:g}",
    "less_than_equal": "must not be above {le:g}",
    "less_than": "must be below {lt:g}",
    "int": "must be a whole number",
    "beyond": f"must be between -{LARGEST} and {LARGEST}",
    "float": "must be a number",
    "finite": "must be a finite number",
    "bool": "must be true or false",
    "string": "must be text",
    "list": "must be a list, for example [1, 2, 3]",
}


def _named(location: Sequence[str | int], *, whole: bool) -> list[str]:
    """Where pydantic found it, as the user names it: of the numbers, which count a list's values, only those of groups
    (sets.1.format), unless the ``whole`` of it is wanted."""
    pairs = zip(location, (*location, 0)[1:], strict=True)
    return [str(part) for part, following in pairs if whole or isinstance(part, str) or isinstance(following, str)]


def type_at(kind: Any, path: list[str]) -> Any:
    """The type of a key, by its path from a group."""
    for part in path:
        if part.isdigit():  # a group of a list of groups
            kind = next((get_args(inner)[0] for inner in (kind, *get_args(kind)) if get_origin(inner) is list), None)
        else:
            kind = keys_of(kind).get(part)
    return kind


def _nearest(key: str, parents: list[str], kind: Any, prefix: str) -> str:
    """' (did you mean ...?)': a sibling first, else the same word anywhere in the tree."""
    siblings = list(keys_of(type_at(kind, parents)))
    every = all_keys(kind)
    same = list(dict.fromkeys(one[: at.end()] for one in every if (at := re.search(rf"(?:^|\.){re.escape(key)}(?=\.|$)", one))))
    # A word that stands elsewhere is a likelier mistake than one that is only somewhat like a sibling (optimizer, runtime).
    near = difflib.get_close_matches(key, siblings, n=1, cutoff=0.75 if same else 0.5)
    if near:
        return f" (did you mean '{prefix}{'.'.join((*parents, near[0]))}'?)"
    same = same or difflib.get_close_matches(".".join((*parents, key)), every, n=1, cutoff=0.5)
    return f" (did you mean '{prefix}{same[0]}'?)" if same else f" (valid here: {', '.join(siblings)})"


def _choices(value: Any, kind: Any) -> str:
    """Those of a Literal, as YAML writes them, and the nearest."""
    options = next((inner for inner in (kind, *get_args(kind)) if get_origin(inner) is Literal), kind)
    names = [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in get_args(options)]
    near = difflib.get_close_matches(str(value), names, n=1)
    return ", ".join(names) + (f" (did you mean '{near[0]}'?)" if near else "")

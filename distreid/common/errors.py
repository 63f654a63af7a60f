"""The one error a user is meant to see. Every floor of the house may raise it; only the command line catches it."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(Exception):
    """Something the user can mend: the message is one line that names the file, key or value and says what to do.

    The command line prints it without a traceback and exits with 2.
    """


class Stopped(UserError):  # noqa: N818 - nothing went wrong
    """A run ended because it was told to, and can be continued; the command line exits with 143, as SIGTERM would."""


def explain(error: ValidationError, keys: list[str], prefix: str = "") -> str:
    """What pydantic found wrong first, as one line that names the key as the user writes it: "labels.k1=0 must be greater than 0".

    Args:
        keys: the valid keys of the same group, for "did you mean".
        prefix: of the group, such as "labels.".
    """
    first = error.errors(include_url=False)[0]
    kind, context = first["type"], first.get("ctx", {})
    if kind == "value_error":  # a message of ours, in which keys stand as key=value
        return re.sub(r"\b(?=\w+=)", prefix, str(context["error"]))
    name = prefix + ".".join(map(str, first["loc"]))
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        near = difflib.get_close_matches(str(first["loc"][-1]), keys, n=1, cutoff=0.5)
        return f"unknown key '{name}'" + (f" (did you mean '{prefix}{near[0]}'?)" if near else f" (valid here: {', '.join(keys)})")
    for found, text in _PROBLEMS.items():
        if kind.startswith(found):
            return f"{name}={first['input']!r} {text.format(**context)}"
    return f"{name}={first['input']!r}: {first['msg']}"


# Heads of pydantic's error types.
_PROBLEMS = {
    "greater_than_equal": "must be {ge:g} or more",
    "greater_than": "must be greater than {gt:g}",
    "less_than_equal": "must not be above {le:g}",
    "less_than": "must be below {lt:g}",
    "literal": "must be {expected}",
    "int": "must be a whole number",
    "float": "must be a number",
    "finite": "must be a finite number",
    "bool": "must be true or false",
    "string": "must be text",
}

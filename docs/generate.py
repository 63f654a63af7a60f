"""Writes docs/configuration.md, docs/commands.md and the schemas in jobs/ from the code: make docs. A test keeps them in step."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from distreid.cli import make_app
from distreid.config import METHODS, json_schema
from distreid.sweeps.schema import sweep_schema

ROOT = Path(__file__).parent.parent
NOTE = "<!-- Written by docs/generate.py from the code: change it there, then `make docs`. -->\n\n"

CONFIGURATION = """# Configuration

A configuration is a YAML file that names only what differs from the defaults below. Every key can also be set on the command
line, dotted: `distreid train ours.yaml adapt.rounds=3 loss.target=hard`. Three keys have no default that works: `output`,
`source.data` and `target.data`.

Every default says where it comes from. *Paper* is Huang et al., "Domain Adaptive Attention Learning for Unsupervised Person
Re-Identification" (AAAI 2020), in a method's own group that method's paper; *decided* marks what the paper leaves open.

An unknown key, a wrong type and a value out of bounds are one line that names the key and the nearest valid one, before
anything starts. A whole number is no text and no `1.0`; an empty group means its defaults; `~` and `$NAME` are expanded in
paths. A run directory's `config.yaml` holds all keys, every default written out.

To have an editor with a YAML language server complete keys and show these texts, begin a file with a line that leads to
`jobs/schema.json` (a sweep file: `jobs/sweep.schema.json`), or to what `distreid schema --out schema.json` writes:

```yaml
# yaml-language-server: $schema=schema.json
```
"""

COMMANDS = """# Commands

`distreid COMMAND --help` says the same in the terminal, and `distreid --install-completion` lets the shell complete it.
A command ends with 0 when it did its work, with 2 and one line on standard error for a mistake that you can mend, and with 1
for anything else; a run that was told to stop, and can be continued, ends with 143.
"""


def configuration() -> str:
    """A table for each group of settings, from the JSON schema."""
    schema = json_schema()
    groups = {name: key for name, key in schema["properties"].items() if "$ref" in key}
    single = {name: key for name, key in schema["properties"].items() if "$ref" not in key}
    listed = " · ".join(f"[{name}](#{name})" for name in groups)
    parts = [NOTE + CONFIGURATION, f"## The run\n\nGroups: {listed}. Three keys stand outside of them.\n\n{_table(single)}"]
    for name, key in groups.items():
        same = next(other for other, reference in groups.items() if reference == key)
        parts.append(_group(name, key, schema["$defs"], 2) if same == name else f"## {name}\n\nAs [{same}](#{same}).\n")
    return "\n".join(parts)


def _group(name: str, reference: dict[str, str], groups: dict[str, Any], level: int) -> str:
    group = groups[reference["$ref"].rsplit("/", 1)[-1]]
    keys = {key: value for key, value in group["properties"].items() if "$ref" not in value}
    old = [f"`{key}` ({value['description']})" for key, value in keys.items() if value.get("deprecated")]
    text = f"{'#' * level} {name}\n\n{_markdown(' '.join(group['description'].split()))}\n\n"
    text += _table({key: value for key, value in keys.items() if not value.get("deprecated")})
    if name in METHODS and METHODS[name].defaults:
        defaults = "\n".join(f"| `{key}` | {_default(value)} |" for key, value in METHODS[name].defaults.items())
        text += (
            f"\nKeys of other groups that a file with `method: {name}` leaves out:\n\n| key | default |\n|---|---|\n{defaults}\n"
        )
    if old:
        text += f"\nOlder names go on working: {', '.join(old)}.\n"
    inner = {key: value for key, value in group["properties"].items() if "$ref" in value}
    return "\n".join([text, *(_group(f"{name}.{key}", value, groups, level + 1) for key, value in inner.items())])


def _table(keys: dict[str, dict[str, Any]]) -> str:
    rows = [
        f"| `{name}` | {_default(key['default'])} | {_allowed(key)} | {_markdown(key['description'])} |"
        for name, key in keys.items()
    ]
    return "\n".join(["| key | default | allowed | meaning and source |", "|---|---|---|---|", *rows]) + "\n"


def _default(value: Any) -> str:
    if value is None or value == "":
        return "empty"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text.replace('e-0', 'e-')}`"


def _allowed(key: dict[str, Any]) -> str:
    """Types, choices and bounds in words."""
    if "anyOf" in key:
        return ", or ".join(_allowed(kind) for kind in key["anyOf"])
    if "enum" in key or "const" in key:
        return ", ".join(
            f"`{choice if isinstance(choice, str) else json.dumps(choice)}`" for choice in key.get("enum", [key.get("const")])
        )
    if key["type"] == "array" and "$ref" in key["items"]:
        return "list of paths or groups of keys"
    if key["type"] == "array" and key["items"]["type"] == "string":
        return "list of texts"
    kind = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "`true`, `false`",
        "array": "list of whole numbers",
        "null": "empty",
    }[key["type"]]
    if "minItems" in key:
        return "two whole numbers"
    if "minimum" in key and "maximum" in key:
        return f"{key['minimum']:g} ≤ {kind} ≤ {key['maximum']:g}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return " ".join([kind, ", ".join(f"{sign} {key[bound]:g}" for bound, sign in signs.items() if bound in key)]).strip()


def _markdown(text: str) -> str:
    """reStructuredText's ``code``, and signs that Markdown would read."""
    return text.replace("``", "`").replace("|", r"\|").replace(" * ", r" \* ")


def commands() -> str:
    """Every command with its arguments and options, from the application itself."""
    app = make_app()
    app["--install-completion"].show = False  # no command, but an option of them all
    text = re.sub(r"^(distreid \S+) -m \S+", r"\1", app.generate_docs(), flags=re.MULTILINE)  # of `python -m` that runs this
    overview = text.index("**Run**:")  # before it stand a title and a list of the same commands without their groups
    text = re.sub(r"^\*\*(.+)\*\*:$", r"**\1**", text[overview:], flags=re.MULTILINE)
    return f"{NOTE}{COMMANDS}\n{_plain(text)}\n"


def _plain(text: str) -> str:
    """reStructuredText's ``code`` as Markdown's, and no spaces at the ends of lines."""
    return "\n".join(line.rstrip() for line in re.sub(r"``([^`\n]+)``", r"`\1`", text).strip().splitlines())


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


FILES = {
    "docs/configuration.md": configuration,
    "docs/commands.md": commands,
    "jobs/schema.json": lambda: _json(json_schema()),
    "jobs/sweep.schema.json": lambda: _json(sweep_schema()),
}

if __name__ == "__main__":
    for name, text in FILES.items():
        (ROOT / name).write_text(text(), encoding="utf-8")
        print(name)

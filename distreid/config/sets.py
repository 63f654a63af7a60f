"""The short forms of a domain of several data sets, as a file and overrides may have them.

``source: [a.arrow, {data: b, format: names}]`` is ``source: {sets: [{data: a.arrow}, {data: b, format: names}]}``, and
``source.1.format=names`` changes the second.
"""

from __future__ import annotations

from typing import Any

DOMAINS = ("source", "target")


def written_out(tree: dict[str, Any]) -> None:
    """Write the domains of a configuration's tree in their long form, in place; what is of another kind stays as it is."""
    for name in DOMAINS:
        domain = tree.get(name)
        if isinstance(domain, list):
            tree[name] = domain = {"sets": domain}
        if isinstance(domain, dict) and isinstance(domain.get("sets"), list):
            domain["sets"] = [{"data": one} if isinstance(one, str) else one for one in domain["sets"]]


def long_key(parts: list[str]) -> list[str]:
    """``source.1.format`` as ``source.sets.1.format``."""
    short = len(parts) > 1 and parts[0] in DOMAINS and parts[1].isdigit()
    return [parts[0], "sets", *parts[1:]] if short else parts

"""Every line that docs/troubleshooting.md quotes stands in the code: … stands for what a message fills in."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(.+?)`[^|]*\| [^|]+ \| [^|]+ \|$", PAGE, re.MULTILINE)


@cache
def messages() -> list[str]:
    """All texts of the code, what they fill in as an ellipsis; texts beside each other are one."""
    found = []
    for file in (ROOT / "distreid").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def stands_in_code(line: str) -> bool:
    """Its fixed words in their order in one message, or, of a message that is put together, in several."""
    words = [part.strip(" …;:,.()'?=") for part in line.split("…")]
    words = [part for part in words if part]
    whole = re.compile(".*?".join(re.escape(part) for part in words), re.DOTALL)
    return any(whole.search(text) for text in messages()) or all(any(part in text for text in messages()) for part in words)


def test_the_page_tells_of_enough_lines() -> None:
    assert len(ROWS) >= 40 and len(ROWS) == len(set(ROWS))


@pytest.mark.parametrize("line", ROWS)
def test_the_line_still_stands_in_the_code(line: str) -> None:
    assert stands_in_code(line), f"no message of the code says: {line}"


def test_what_no_message_says_is_found() -> None:
    assert not stands_in_code("the moon is in the wrong quarter; wait")

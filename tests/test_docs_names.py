"""What docs/architecture.md and docs/algorithm.md name is there: files, and the names of classes and functions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "architecture.md", ROOT / "docs" / "algorithm.md"]
CODE = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "distreid").rglob("*.py"))


def is_value(name: str) -> bool:
    """A constant, or a key of the configuration."""
    return re.search(rf"^ *{name}(?: =|: )", CODE, re.MULTILINE) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_is_there(page: Path) -> None:
    files = re.findall(r"`([\w/]+(?:\.py|/))`", page.read_text(encoding="utf-8"))
    assert files and [name for name in files if not ((ROOT / "distreid" / name).exists() or (ROOT / name).exists())] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_class_and_function_is_there(page: Path) -> None:
    quoted = re.findall(r"`(\w+)(?:\.(\w+))?(?:\([^`]*\))?`", page.read_text(encoding="utf-8"))
    names = {part for names in quoted for part in names if re.search(r"[A-Z].*[a-z]|_", part)}
    assert len(names) >= 8
    assert [name for name in sorted(names) if not re.search(rf"(?:def|class) {name}\b", CODE) and not is_value(name)] == []

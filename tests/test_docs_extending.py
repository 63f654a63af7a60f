"""The examples of docs/extending.md run, in order, as one program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "extending.md"


def blocks() -> list[tuple[int, str]]:
    """Each python block with its first line's number."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n") + 1, match[1]) for match in found]


def test_the_page_has_an_example_of_each_kind() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for heading in ("A data set", "A backbone", "A loss", "A method"):
        assert f"\n## {heading}\n" in text and "```python" in text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path) -> None:
    """In a process of their own, for they register a reader and a method; a traceback names the page's own lines."""
    lines = [""] * (PAGE.read_text(encoding="utf-8").count("\n") + 1)
    for first, code in blocks():
        for offset, line in enumerate(code.splitlines()):
            lines[first - 1 + offset] = line
    program = tmp_path / "extending.py"
    program.write_text("\n".join(lines), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=200, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = next(tmp_path.glob("tmp*/run"))
    assert (run / "result.json").exists() and (run / "metrics.jsonl").read_text().count('"center"') == 1

"""The documentation: it builds without a warning, its links lead somewhere on GitHub, its plots are those of the script."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [file for pattern in ("*.md", "docs/*.md", "*/README.md") for file in sorted(ROOT.glob(pattern))]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(place), f"{page}: {link}"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "results" / "index.html").exists()


def test_the_plots_are_those_of_the_script() -> None:
    spec = importlib.util.spec_from_file_location("plots", ROOT / "docs" / "plots.py")
    assert spec and spec.loader
    plots = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plots)
    for name in plots.FIGURES:
        assert (ROOT / "docs" / f"{name}.svg").read_text(encoding="utf-8") == plots.drawing(name), "run: python docs/plots.py"

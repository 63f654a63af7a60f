"""One undisturbed run, which the others are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from tests.cluster.runs import finish, start


@pytest.fixture(scope="session")
def undisturbed(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Made by the first of pytest's processes that asks; the data drawn by each are the same."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "undisturbed"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "run" / "result.json").exists():
            folder.mkdir(exist_ok=True)
            out, err = finish(start(folder, packed_pair))
            assert "adapted (final)" in out and "report.html" in out
            assert "(pid=" not in out + err, "Ray's chatter is kept out of the way"
    return folder

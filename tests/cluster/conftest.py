"""One undisturbed run, which the others are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.runs import finish, start


@pytest.fixture(scope="session")
def undisturbed(packed_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    out, err = finish(start(folder, packed_pair))
    assert "adapted (final)" in out and "report.html" in out
    assert "(pid=" not in out + err, "Ray's chatter is kept out of the way"
    return folder

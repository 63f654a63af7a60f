"""Commands called in this process."""

from __future__ import annotations

import pytest

from distreid.cli import main


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that ends in the user's mistake; the one line it says."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("distreid:")]
    assert len(lines) == 1
    return lines[0]

"""The checks of the kernels can fail: three dozen broken kernels are each noticed by them."""

import json
import os
import subprocess
import sys

import pytest

from tests.labels.gpu.mutants import MUTANTS
from tests.labels.gpu.shim import needs_compiler


@pytest.mark.slow
@needs_compiler
def test_every_broken_kernel_is_noticed() -> None:
    """About a minute on an idle machine."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.labels.gpu.mutants"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    noticed = json.loads(done.stdout)
    assert noticed.pop("none") is False, "the kernels as they are pass"
    assert len(MUTANTS) >= 12 and noticed == dict.fromkeys(MUTANTS, True)

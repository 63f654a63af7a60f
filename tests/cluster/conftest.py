"""One undisturbed run, which the others are compared with, and one Ray for all tests that leave it whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from ray.cluster_utils import Cluster

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


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[str]:
    """Its address. A test that kills parts of its Ray, or looks at how a run starts one of its own, does not use this one."""
    settings = {"num_cpus": 2, "include_dashboard": False, "_system_config": {"worker_niceness": 0}}
    cluster = Cluster(initialize_head=True, head_node_args=settings)
    yield cluster.address
    cluster.shutdown()

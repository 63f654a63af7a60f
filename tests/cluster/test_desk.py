"""The labelling actor by itself, on a real local Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.ray

# In a process of its own: a local Ray that this test starts is nobody else's.
PROGRAM = """
import gc, time
import numpy as np
import ray
from distreid.cluster.desk import RemoteDesk, start_desk
from distreid.config import LabelsConfig
from tests.labels.test_engine import draw_features

ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
features_ND = draw_features("clustered", 300, 16, 3)
# Larger than what Ray sends along with the call: such data stand in the object store.
desk, kept = start_desk(LabelsConfig(k1=10, k2=3, p=0.02), {}, np.arange(100_000), 0.0, "run")
first = RemoteDesk(desk, 0, 1, "a").label("1", features_ND, None)
gc.collect()
ray.kill(desk, no_restart=False)
for attempt in range(120):
    try:
        second = RemoteDesk(desk, 0, 1, f"b{attempt}").label("1", features_ND, None)
        break
    except ray.exceptions.ActorUnavailableError:
        time.sleep(0.5)
assert second.pseudo.labels.tobytes() == first.pseudo.labels.tobytes() and second.pseudo.num_clusters > 10
print("equal")
"""


def test_it_starts_again_when_killed_whatever_the_size_of_its_data() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr

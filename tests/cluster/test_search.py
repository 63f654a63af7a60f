"""The neighbour search spread over real Ray tasks gives the bits of the search of one process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ray

# In a process of its own: pytest's stays without a connection to Ray, for all that it runs.
PROGRAM = """
import numpy as np
import ray
from distreid.cluster import search
from distreid.cluster.search import SpreadSearch
from distreid.labels import make_pseudo_labels
from distreid.retrieval.neighbours import nearest
from distreid.retrieval.prepare import prepare
from tests.features import draw_features

search.FEWEST_ROWS = 100
ray.init(log_to_driver=False)
assert ray.cluster_resources()["CPU"] == 2
features_ND = draw_features("clustered", 1200, 40, 3)
features_ND[1000:1100] = features_ND[:100]
camids_N = np.arange(1200) % 3
spread = SpreadSearch(2)
prepared = prepare(features_ND, 30, 1)
for ours, expected in zip(spread(prepared, 30), nearest(prepared, 30), strict=True):
    assert ours.tobytes() == expected.tobytes()
for how in ({}, {"camids": camids_N}):
    ours, expected = (make_pseudo_labels(features_ND, p=0.005, search=find, **how) for find in (spread, None))
    assert ours.labels.tobytes() == expected.labels.tobytes() and ours.eps == expected.eps and ours.num_clusters > 10
print("equal")
"""


def test_two_tasks_give_the_bits_of_one_process(shared_ray: str) -> None:
    environment = os.environ | {"RAY_ADDRESS": shared_ray}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr

"""`distreid bench round` on a real local Ray."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ray


def test_features_go_to_the_actor_and_labels_come_back(shared_ray: str) -> None:
    command = [sys.executable, "-m", "distreid", "bench", "round", "--n", "301", "--dim", "16", "--json"]
    environment = os.environ | {"RAY_ADDRESS": shared_ray}
    figures = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert figures["workers"] == 2 and figures["features_bytes"] == 4 * 301 * 16
    assert figures["clusters"] > 1 and 0 < figures["labelling_seconds"] < figures["seconds"]
    assert figures["moving_seconds"] == pytest.approx(figures["seconds"] - figures["labelling_seconds"])
    assert figures["share_of_round"] == pytest.approx(figures["seconds"] / (600 + figures["seconds"]))

"""A whole run in this process, without Ray: for debugging, and for machines that have no Ray."""

from __future__ import annotations

from typing import Any

import torch

from distreid.config import Config
from distreid.methods.daam import DAAM
from distreid.methods.desk import LocalDesk
from distreid.methods.domains import Network, TestSet
from distreid.methods.protocols import Reporter
from distreid.runtime import RunDirectory, Team


def train(config: Config, source: Network, target: Network, run: RunDirectory, reporter: Reporter) -> dict[str, Any]:
    """Train with one process. Returns what result.json holds."""
    desk = LocalDesk(config.labels, test_sets(source, target))
    wants_gpu = config.runtime.gpu != "no" and torch.cuda.is_available()
    team = Team(device=torch.device("cuda", 0) if wants_gpu else torch.device("cpu"))
    return DAAM(config, team, source, target, desk, run, reporter).run()


def test_sets(source: Network, target: Network) -> dict[str, TestSet]:
    """The test sets that a desk must know, by the names that DAAM uses."""
    return {name: network.test for name, network in (("source", source), ("target", target)) if network.test is not None}

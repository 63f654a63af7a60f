"""A whole run in this process, without Ray: for debugging, and for machines that have no Ray."""

from __future__ import annotations

from typing import Any

import torch

from distreid.config import Config
from distreid.errors import UserError
from distreid.methods.daam import DAAM
from distreid.methods.desk import LocalDesk
from distreid.methods.domains import Network, TestSet
from distreid.methods.edaan import EDAANMethod
from distreid.methods.method import Method
from distreid.methods.protocols import Reporter
from distreid.runtime import RunDirectory, Team
from distreid.runtime.machine import usable_cores

METHODS: dict[str, type[Method]] = {"daam": DAAM, "edaan": EDAANMethod}


def train(config: Config, source: Network, target: Network, run: RunDirectory, reporter: Reporter) -> dict[str, Any]:
    """Train with one process. Returns what result.json holds."""
    torch.set_num_threads(config.runtime.cpus_per_worker or min(torch.get_num_threads(), usable_cores()))
    team = Team(device=training_device(config.runtime.gpu))
    desk = LocalDesk(config.labels, test_sets(source, target), team.device, camids=target.camids)
    reporter.note(f"in this process, on {team.device}")
    return METHODS[config.method](config, team, source, target, desk, run, reporter).run()


def training_device(gpu: str) -> torch.device:
    """This process's device for ``runtime.gpu`` auto, yes or no."""
    if gpu == "yes" and not torch.cuda.is_available():
        raise UserError("runtime.gpu=yes, but torch sees no GPU on this machine; use auto or no")
    return torch.device("cuda", 0) if gpu != "no" and torch.cuda.is_available() else torch.device("cpu")


def test_sets(source: Network, target: Network) -> dict[str, TestSet]:
    """The test sets that a desk must know, by the names that the methods use."""
    return {name: network.test for name, network in (("source", source), ("target", target)) if network.test is not None}

"""A whole run in this process, without Ray: for debugging, and for machines that have no Ray."""

from __future__ import annotations

from typing import Any

import torch

from distreid.common.errors import UserError
from distreid.common.machine import usable_cores
from distreid.config import Config
from distreid.methods.registry import find
from distreid.training import ProcessGroup, RunDirectory
from distreid.training.context import Context
from distreid.training.domains import DomainData, TestSet
from distreid.training.in_process import LocalEvaluator, LocalLabeler
from distreid.training.protocols import Reporter


def train(config: Config, source: DomainData, target: DomainData, run: RunDirectory, reporter: Reporter) -> dict[str, Any]:
    """Train with one process. Returns what result.json holds."""
    torch.set_num_threads(config.runtime.cpus_per_worker or min(torch.get_num_threads(), usable_cores()))
    processes = ProcessGroup(device=training_device(config.runtime.gpu))
    labeler = LocalLabeler(config.labels, processes.device, camids=target.camids)
    evaluator = LocalEvaluator(test_sets(source, target), processes.device)
    reporter.note(f"in this process, on {processes.device}")
    context = Context.begin(config, processes, source, target, labeler, evaluator, run, reporter)
    return find(config.method).method(context).run()


def training_device(gpu: str) -> torch.device:
    """This process's device for ``runtime.gpu`` auto, yes or no."""
    if gpu == "yes" and not torch.cuda.is_available():
        raise UserError("runtime.gpu=yes, but torch sees no GPU on this machine; use auto or no")
    return torch.device("cuda", 0) if gpu != "no" and torch.cuda.is_available() else torch.device("cpu")


def test_sets(source: DomainData, target: DomainData) -> dict[str, TestSet]:
    """The test sets that an evaluator must know, by the names that the methods use."""
    return {name: network.test for name, network in (("source", source), ("target", target)) if network.test is not None}

"""Real processes for tests of what is distributed: spawn a function on several Gloo ranks and collect what they return."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from distreid.training.in_process import LocalLabeler
from distreid.training.protocols import RoundLabels, ScoreFuture


def _run(rank: int, world: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    torch.save(function(rank, world, *arguments), Path(folder) / f"{rank}.pt")
    dist.barrier()  # nobody leaves while another still talks to it
    dist.destroy_process_group()
    os._exit(0)  # now and then Gloo's threads abort an ordinary exit


def on_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """``function(rank, world, *arguments)`` in ``world`` new processes of one Gloo group; what each returned, by rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_run, (world, port, function, arguments, folder), nprocs=world)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(world)]


@dataclass
class Shared:
    """A labeler for processes without Ray: everybody labels the whole."""

    whole: LocalLabeler
    world: int

    def label(self, key: str, shard_nD: np.ndarray, eps: float | None) -> RoundLabels:
        shards: list[Any] = [None] * self.world
        dist.all_gather_object(shards, shard_nD)
        return self.whole.label(key, np.concatenate(shards), eps)

    def score(self, key: str, test: str, shard_nD: np.ndarray) -> ScoreFuture:
        raise NotImplementedError("these runs have no test sets")

"""The processes that train together, seen from one of them; with one process every operation is the identity."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank, the number of processes, and the device it trains on."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run directory."""
        return self.rank == 0

    @property
    def averages(self) -> bool:
        """Whether a training step averages gradients over the processes."""
        return self.world > 1

    def mean(self, values: Tensor) -> Tensor:
        """Element-wise mean over the processes."""
        if self.world == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.world

    def gather(self, mine: Tensor) -> Tensor:
        """Every process's rows, in rank order, in all of them; as many in each."""
        if self.world == 1:
            return mine
        parts = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)

    def all_equal(self, text: str) -> bool:
        """Whether every process holds the same text; the same answer in all of them."""
        if self.world == 1:
            return True
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
        both = torch.tensor([number, -number], device=self.device)
        dist.all_reduce(both, dist.ReduceOp.MAX)
        return int(both[0]) == -int(both[1])

    def texts(self, mine: str) -> list[str]:
        """Every process's text, in rank order, in all of them."""
        if self.world == 1:
            return [mine]
        data = torch.tensor(list(mine.encode()), dtype=torch.uint8, device=self.device)
        longest = torch.tensor(len(data), device=self.device)
        dist.all_reduce(longest, dist.ReduceOp.MAX)
        rows = self.gather(nn.functional.pad(data, (0, int(longest) - len(data)))[None])
        return [bytes(row.tolist()).rstrip(b"\0").decode() for row in rows.cpu()]

    def any(self, mine: bool) -> bool:
        """Whether it is true in any process; the same answer in all of them."""
        if self.world == 1:
            return mine
        flag = torch.tensor(int(mine), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def average_buffers(self, model: nn.Module, weight: float = 1.0) -> None:
        """Give every process the mean of all processes' floating-point buffers (BatchNorm's running statistics).

        The processes' weights, 1 on average, make it a weighted mean.
        """
        buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if self.world == 1 or not buffers:
            return
        mean = self.mean(weight * torch.cat([buffer.flatten() for buffer in buffers]))
        for buffer, part in zip(buffers, mean.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(part.view_as(buffer))

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

"""Which images are in which global batch: a function of seed, epoch and data, never of the number of workers.

A stream is an endless sequence of image indices, pass after pass over a data set; a plan cuts one epoch of global batches
out of one or two streams; a worker takes its contiguous slice of every global batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distreid.common.errors import UserError

SOURCE, TARGET = 0, 1


class PlainStream:
    """Pass k is a permutation of 0..n-1 drawn from (seed, k)."""

    def __init__(self, n: int, seed: Sequence[int]) -> None:
        self.length = n
        self._n, self._seed = n, list(seed)

    def draw_pass(self, k: int) -> np.ndarray:
        """The k-th pass over the data, int64 [length]."""
        return np.random.default_rng([*self._seed, k]).permutation(self._n)

    def take(self, start: int, count: int) -> np.ndarray:
        """Entries start .. start+count-1 of the endless stream, int64 [count]."""
        first, last = start // self.length, (start + count - 1) // self.length
        passes = np.concatenate([self.draw_pass(k) for k in range(first, last + 1)]) if count else np.zeros(0, np.int64)
        return passes[start - first * self.length :][:count]


class PKStream(PlainStream):
    """Identity-balanced: `instances` images (K) of one identity stand together, so a batch of B holds B/K identities (P).

    Every pass shows every identity in turn: in chunks of K images without repetition, the last chunk filled up by repeats. The
    first chunks of all identities come first, then the second ones, so that identities repeat within a batch only where one
    layer of chunks ends and the next begins.

    Args:
        labels: identity of each image, int64 [n].
    """

    def __init__(self, labels: np.ndarray, instances: int, seed: Sequence[int]) -> None:
        super().__init__(len(labels), seed)
        order = np.argsort(labels, kind="stable")
        self._groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        self._instances = instances
        self.length = sum(-(-len(group) // instances) * instances for group in self._groups)

    def draw_pass(self, k: int) -> np.ndarray:
        rng = np.random.default_rng([*self._seed, k])
        chunks: list[tuple[int, float, np.ndarray]] = []
        for group in self._groups:
            images = rng.permutation(group)
            missing = -len(images) % self._instances
            if missing:
                images = np.concatenate([images, rng.choice(group, missing)])
            for layer, chunk in enumerate(images.reshape(-1, self._instances)):
                chunks.append((layer, rng.random(), chunk))
        chunks.sort(key=lambda item: item[:2])
        return np.concatenate([chunk for _, _, chunk in chunks])


def make_stream(labels: np.ndarray, sampler: str, instances: int, seed: Sequence[int]) -> PlainStream:
    """The stream of a configured sampler (``plain`` or ``pk``) over images with these identities or clusters (int64 [n])."""
    return PKStream(labels, instances, seed) if sampler == "pk" else PlainStream(len(labels), seed)


@dataclass(frozen=True)
class BatchPlan:
    """The global batches of one epoch.

    Attributes:
        domain_SB: 0 source, 1 target; int64 [steps, B].
        index_SB: index of the image within its domain's stream; int64 [steps, B].
    """

    domain_SB: np.ndarray
    index_SB: np.ndarray

    def __len__(self) -> int:
        return len(self.domain_SB)


def plan_one(stream: PlainStream, epoch: int, batch: int) -> BatchPlan:
    """One epoch over one domain: floor(n / B) batches, at least one (then images repeat)."""
    steps = max(1, stream.length // batch)
    index_SB = stream.take(epoch * steps * batch, steps * batch).reshape(steps, batch)
    return BatchPlan(np.full_like(index_SB, SOURCE), index_SB)


def plan_mixed(source: PlainStream, target: PlainStream, epoch: int, batch: int, group: int) -> BatchPlan:
    """One epoch over the target, with as many source images beside it, cycling through the source.

    Every BatchNorm group of ``group`` images is half source, half target, so a worker's slice is mixed as the whole is.
    """
    if batch % group or group % 2:
        raise UserError(f"a batch of {batch} cannot be cut into groups of {group} that are half source, half target")
    half = batch // 2
    return _mix(source, target, epoch, max(1, target.length // half), half, group)


def plan_unpaired(source: PlainStream, target: PlainStream, epoch: int, half: int, group: int) -> BatchPlan:
    """One epoch over the source, ``half`` images a batch, with as many target images beside it, cycling through the target.

    Like :func:`plan_mixed`, in groups of ``group`` images: ``group`` / 2 source, then as many target.
    """
    return _mix(source, target, epoch, max(1, source.length // half), half, group)


def _mix(source: PlainStream, target: PlainStream, epoch: int, steps: int, half: int, group: int) -> BatchPlan:
    batch = 2 * half
    halves = [
        stream.take(epoch * steps * half, steps * half).reshape(steps, batch // group, group // 2) for stream in (source, target)
    ]
    domains = [np.full_like(half_Sgh, domain) for domain, half_Sgh in zip((SOURCE, TARGET), halves, strict=True)]
    return BatchPlan(np.concatenate(domains, 2).reshape(steps, batch), np.concatenate(halves, 2).reshape(steps, batch))


def shard(n: int, rank: int, world: int) -> slice:
    """Worker ``rank``'s contiguous part of n items: unpadded, every item in exactly one part, sizes differ by at most one."""
    return slice(n * rank // world, n * (rank + 1) // world)

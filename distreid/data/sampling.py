"""Which images are in which global batch: a function of seed, epoch and data, never of the number of workers.

A stream is an endless sequence of image indices, pass after pass over a data set; a plan cuts one epoch of global batches
out of one or two streams; a worker takes its contiguous slice of every global batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from distreid.common.errors import UserError

SOURCE, TARGET = 0, 1


class Stream(Protocol):
    """An endless sequence of image indices; ``length`` of them are one pass."""

    length: int

    def take(self, start: int, count: int) -> np.ndarray:
        """Entries start .. start+count-1, int64 [count]."""
        ...


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


class BalancedStream:
    """The streams of several sets in turn, ``chunk`` images of each: in any part of it they are equal, up to one chunk.

    A pass shows the longest stream's once; shorter ones begin again meanwhile.

    Args:
        streams: one a set, each of a length that ``chunk`` divides. rows: the images of each, int64 [n_m].
    """

    def __init__(self, streams: Sequence[Stream], rows: Sequence[np.ndarray], chunk: int) -> None:
        self._streams, self._rows, self._chunk = streams, rows, chunk
        self.length = len(streams) * max(stream.length for stream in streams)

    def take(self, start: int, count: int) -> np.ndarray:
        """Entries start .. start+count-1 of the endless stream, int64 [count]."""
        turn_N, within_N = np.divmod(np.arange(start, start + count), self._chunk)
        own_N = turn_N // len(self._streams) * self._chunk + within_N  # place in the stream of its set
        taken_N = np.empty(count, np.int64)
        for number, (stream, rows) in enumerate(zip(self._streams, self._rows, strict=True)):
            here = turn_N % len(self._streams) == number
            if here.any():
                first, last = own_N[here][0], own_N[here][-1]
                taken_N[here] = rows[stream.take(int(first), int(last - first + 1))]
        return taken_N


def make_stream(labels: np.ndarray, sampler: str, instances: int, seed: Sequence[int], sets: np.ndarray | None = None) -> Stream:
    """The stream of a configured sampler (``plain`` or ``pk``) over images with these identities or clusters (int64 [n]).

    ``sets``: of a balanced stream, the number of the set that each image came from, from 0, int64 [n].
    """
    if sets is not None:
        rows = [np.flatnonzero(sets == number) for number in range(sets.max() + 1)]
        streams = [make_stream(labels[own], sampler, instances, [*seed, number]) for number, own in enumerate(rows)]
        return BalancedStream(streams, rows, instances if sampler == "pk" else 1)
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


def plan_one(stream: Stream, epoch: int, batch: int) -> BatchPlan:
    """One epoch over one domain: floor(n / B) batches, at least one (then images repeat)."""
    steps = max(1, stream.length // batch)
    index_SB = stream.take(epoch * steps * batch, steps * batch).reshape(steps, batch)
    return BatchPlan(np.full_like(index_SB, SOURCE), index_SB)


def plan_mixed(source: Stream, target: Stream, epoch: int, batch: int, group: int) -> BatchPlan:
    """One epoch over the target, with as many source images beside it, cycling through the source.

    Every BatchNorm group of ``group`` images is half source, half target, so a worker's slice is mixed as the whole is.
    """
    if batch % group or group % 2:
        raise UserError(f"a batch of {batch} cannot be cut into groups of {group} that are half source, half target")
    half = batch // 2
    return _mix(source, target, epoch, max(1, target.length // half), half, group)


def plan_unpaired(source: Stream, target: Stream, epoch: int, half: int, group: int) -> BatchPlan:
    """One epoch over the source, ``half`` images a batch, with as many target images beside it, cycling through the target.

    Like :func:`plan_mixed`, in groups of ``group`` images: ``group`` / 2 source, then as many target.
    """
    return _mix(source, target, epoch, max(1, source.length // half), half, group)


def _mix(source: Stream, target: Stream, epoch: int, steps: int, half: int, group: int) -> BatchPlan:
    batch = 2 * half
    halves = [
        stream.take(epoch * steps * half, steps * half).reshape(steps, batch // group, group // 2) for stream in (source, target)
    ]
    domains = [np.full_like(half_Sgh, domain) for domain, half_Sgh in zip((SOURCE, TARGET), halves, strict=True)]
    return BatchPlan(np.concatenate(domains, 2).reshape(steps, batch), np.concatenate(halves, 2).reshape(steps, batch))


def shard(n: int, rank: int, world: int) -> slice:
    """Worker ``rank``'s contiguous part of n items: unpadded, every item in exactly one part, sizes differ by at most one."""
    return slice(n * rank // world, n * (rank + 1) // world)

"""From a plan to batches of tensors: one thread decodes ahead while the network trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from distreid.data.sampling import BatchPlan, shard
from distreid.data.transforms import Colour, Layout, augment, draw, normalize, pinned


class Images(Protocol):
    """Anything that decodes images by index."""

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray, height: int, width: int) -> Tensor:
        """uint8 [B, 3, height, width]."""
        ...


@dataclass(frozen=True)
class View:
    """Some rows of a store, renumbered from 0: index i is the store's row ``rows[i]``."""

    store: Images
    rows: np.ndarray

    def read(self, indices: np.ndarray, height: int, width: int) -> Tensor:
        return self.store.read(self.rows[indices], height, width)

    def __len__(self) -> int:
        return len(self.rows)


class Stacked:
    """Rows of several stores, one after another, as one."""

    def __init__(self, *parts: tuple[Images, np.ndarray]) -> None:
        self._stores = [store for store, _ in parts]
        self._rows = np.concatenate([rows for _, rows in parts])
        self._owner = np.repeat(np.arange(len(parts)), [len(rows) for _, rows in parts])

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: np.ndarray, height: int, width: int) -> Tensor:
        images = torch.empty(len(indices), 3, height, width, dtype=torch.uint8)
        for number in np.unique(self._owner[indices]):
            mine = np.flatnonzero(self._owner[indices] == number)
            images[torch.from_numpy(mine)] = self._stores[number].read(self._rows[indices[mine]], height, width)
        return images


@dataclass(frozen=True)
class Augmentation:
    """Size in pixels, the settings of :func:`distreid.data.transforms.draw`, and the network's own normalisation."""

    height: int
    width: int
    flip: float
    pad: int
    erase: float
    mean: Colour
    std: Colour


@dataclass(frozen=True)
class Batch:
    """One worker's slice of a global batch.

    Attributes:
        images_BCHW: augmented, normalised; float32, on the training device.
        domain_B: 0 source, 1 target; int64, NumPy.
        index_B: index of the image within its domain's view; int64, NumPy.
        step: of the epoch, from 0.
    """

    images_BCHW: Tensor
    domain_B: np.ndarray
    index_B: np.ndarray
    step: int

    def split(self, parts: int) -> list[Batch]:
        """Equal consecutive parts; `parts` divides B."""
        cut = (self.images_BCHW.chunk(parts), np.split(self.domain_B, parts), np.split(self.index_B, parts))
        return [Batch(*part, self.step) for part in zip(*cut, strict=True)]


def training_batches(
    domains: Sequence[Images],
    plan: BatchPlan,
    settings: Augmentation,
    seed: Sequence[int],
    *,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
    group: int = 1,
    first: int = 0,
    layout: Layout = torch.Tensor.contiguous,
) -> Iterator[Batch]:
    """Yield this worker's slice of each global batch of an epoch, from step ``first``.

    Args:
        domains: images of domain 0 (source) and, for mixed plans, 1 (target).
        seed: names the epoch; augmentation is a function of it and the step.
        group: a slice is a number of whole groups of so many images.
        layout: how the network wants its images in memory.
    """
    mean, std = _on_device(settings.mean, device), _on_device(settings.std, device)
    total = plan.domain_SB.shape[1]
    groups = shard(total // group, rank, world)
    part = slice(groups.start * group, groups.stop * group)

    def load(step: int) -> tuple[Tensor, int]:
        domain_B, index_B = plan.domain_SB[step, part], plan.index_SB[step, part]
        images = torch.empty(len(index_B), 3, settings.height, settings.width, dtype=torch.uint8)
        for number in np.unique(domain_B):
            mine = np.flatnonzero(domain_B == number)
            images[torch.from_numpy(mine)] = domains[number].read(index_B[mine], settings.height, settings.width)
        return pinned(images, device), step

    for images, step in prefetch(load, range(first, len(plan))):
        rng = np.random.default_rng([*seed, step])
        draws = draw(rng, total, settings.height, settings.width, flip=settings.flip, pad=settings.pad, erase=settings.erase)[part]
        yield Batch(
            images_BCHW=augment(images.to(device, non_blocking=True), draws, settings.pad, mean, std, layout),
            domain_B=plan.domain_SB[step, part],
            index_B=plan.index_SB[step, part],
            step=step,
        )


def plain_batches(
    images: Images,
    part: slice,
    batch: int,
    height: int,
    width: int,
    *,
    mean: Colour,
    std: Colour,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Images part.start .. part.stop-1 in order, without augmentation: normalised float32 [<=batch, 3, H, W]."""

    def load(start: int) -> Tensor:
        return pinned(images.read(np.arange(start, min(start + batch, part.stop)), height, width), device)

    colours = _on_device(mean, device), _on_device(std, device)
    for x_BCHW in prefetch(load, range(part.start, part.stop, batch)):
        yield normalize(x_BCHW.to(device, non_blocking=True), *colours)


def _on_device(colour: Colour, device: torch.device | str) -> Tensor:
    """Once an epoch: a copy for each batch would let the host wait for the GPU each time."""
    return torch.as_tensor(colour, dtype=torch.float32, device=device)


Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def prefetch(load: Callable[[Item], Loaded], items: Sequence[Item], depth: int = 2) -> Iterator[Loaded]:
    """``load`` each item in order, up to ``depth`` of them ahead in a thread."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Loaded]] = []
        for item in items:
            waiting.append(pool.submit(load, item))
            if len(waiting) > depth:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()

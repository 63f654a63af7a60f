"""From a plan to batches of tensors: one thread decodes ahead while the network trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from distreid.common.transfer import pinned, send
from distreid.data.sampling import SOURCE, TARGET, BatchPlan, shard
from distreid.data.store import blank_images
from distreid.data.transforms import Colour, Layout, augment, draw, normalize


class Images(Protocol):
    """Anything that decodes images by index."""

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
        images = blank_images(len(indices), height, width)
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
class Sides:
    """Which images of a slice are whose, int64 on the training device, in the slice's order.

    Attributes:
        domain_B: 0 source, 1 target.
        source_S, target_T: rows of the source's images and of the target's.
    """

    domain_B: Tensor
    source_S: Tensor
    target_T: Tensor


class Layouts:
    """The sides of an epoch's slices. They are alike in all of its batches, so they travel to the device once: to ask the device
    which images are whose would let the host wait for it in every step."""

    def __init__(self) -> None:
        self._known: dict[bytes, Sides] = {}

    def sides(self, domain_B: np.ndarray, device: torch.device) -> Sides:
        key = domain_B.tobytes()
        if key not in self._known:
            rows = [np.flatnonzero(domain_B == domain) for domain in (SOURCE, TARGET)]
            sizes = [len(part) for part in (domain_B, *rows)]
            self._known[key] = Sides(*send(np.concatenate([domain_B, *rows]), device).split(sizes))
        return self._known[key]


@dataclass(frozen=True)
class Batch:
    """One worker's slice of a global batch.

    Attributes:
        images_BCHW: augmented, normalised; float32, on the training device.
        domain_B: 0 source, 1 target; int64, NumPy.
        index_B: index of the image within its domain's view; int64, NumPy.
        step: of the epoch, from 0.
        sent_B: ``index_B`` on the training device, where it is there already.
        layouts: of the epoch.
    """

    images_BCHW: Tensor
    domain_B: np.ndarray
    index_B: np.ndarray
    step: int
    sent_B: Tensor | None = None
    layouts: Layouts = field(default_factory=Layouts)

    @property
    def sides(self) -> Sides:
        return self.layouts.sides(self.domain_B, self.images_BCHW.device)

    @property
    def indices(self) -> Tensor:
        """``index_B`` on the training device, int64: labels are looked up there."""
        return send(self.index_B, self.images_BCHW.device) if self.sent_B is None else self.sent_B

    def split(self, parts: int) -> list[Batch]:
        """Equal consecutive parts; `parts` divides B."""
        domains, numbers = np.split(self.domain_B, parts), np.split(self.index_B, parts)
        cut = zip(self.images_BCHW.chunk(parts), domains, numbers, self.indices.chunk(parts), strict=True)
        return [Batch(images, domain_B, index_B, self.step, sent_B, self.layouts) for images, domain_B, index_B, sent_B in cut]


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
    kernels: bool = False,
) -> Iterator[Batch]:
    """Yield this worker's slice of each global batch of an epoch, from step ``first``.

    Args:
        domains: images of domain 0 (source) and, for mixed plans, 1 (target).
        seed: names the epoch; augmentation is a function of it and the step.
        group: a slice is a number of whole groups of so many images.
        layout: how the network wants its images in memory.
        kernels: augment on a CPU as a GPU does it (the same bits): a rehearsal counts that.
    """
    mean, std = _on_device(settings.mean, device), _on_device(settings.std, device)
    total, layouts = plan.domain_SB.shape[1], Layouts()
    groups = shard(total // group, rank, world)
    part = slice(groups.start * group, groups.stop * group)

    def load(step: int) -> tuple[Tensor, int]:
        domain_B, index_B = plan.domain_SB[step, part], plan.index_SB[step, part]
        images = blank_images(len(index_B), settings.height, settings.width)
        for number in np.unique(domain_B):
            mine = np.flatnonzero(domain_B == number)
            images[torch.from_numpy(mine)] = domains[number].read(index_B[mine], settings.height, settings.width)
        return pinned(images, device), step

    for images, step in prefetch(load, range(first, len(plan))):
        rng = np.random.default_rng([*seed, step])
        draws = draw(rng, total, settings.height, settings.width, flip=settings.flip, pad=settings.pad, erase=settings.erase)[part]
        domain_B, index_B = plan.domain_SB[step, part], plan.index_SB[step, part]
        # All that the device must know of the images beside their pixels travels at once.
        table_B8 = send(np.column_stack([draws.table(), index_B]), device)
        how = table_B8[:, :7] if kernels or table_B8.device.type != "cpu" else draws
        augmented = augment(images.to(device, non_blocking=True), how, settings.pad, mean, std, layout)
        yield Batch(augmented, domain_B, index_B, step, table_B8[:, 7], layouts)


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

"""BatchNorm's statistics of other images than a network was trained with: adaptive batch normalisation (Li et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from distreid.data.loader import View, plain_batches
from distreid.data.sampling import shard
from distreid.models import GroupedBatchNorm2d, ReIDNetwork
from distreid.training.engine import Precision
from distreid.training.process_group import ProcessGroup

BATCH = 128  # images: many more people than a training batch holds


@torch.no_grad()
def take_statistics(
    model: ReIDNetwork,
    encoders: Iterable[nn.Module],
    images: View,
    processes: ProcessGroup,
    precision: Precision,
    *,
    height: int,
    width: int,
    seed: list[int],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Give the BatchNorms of ``encoders``, parts of ``model``, the mean of the statistics of batches of ``images``.

    Batches hold :data:`BATCH` images in random order, so that each shows many people; they are shared out to the processes, so that
    the number of these changes nothing but rounding. What is left of a last batch is left out. Weights stay as they are.

    Args:
        progress: called with the number of this process's images that are done.
    """
    encoders = list(encoders)
    layers = {id(m): m for encoder in encoders for m in encoder.modules() if isinstance(m, GroupedBatchNorm2d)}.values()
    size, training = min(BATCH, len(images)), model.training
    shuffled = View(images, np.random.default_rng(seed).permutation(len(images)))
    mine = shard(len(images) // size, processes.rank, processes.world)
    usual = [(layer.momentum, layer.group, layer.frozen) for layer in layers]
    sums = [torch.zeros(2, len(layer.weight), dtype=torch.float64, device=layer.weight.device) for layer in layers]
    model.eval()
    for layer in layers:
        layer.training, layer.momentum, layer.group, layer.frozen = True, 1.0, size, False  # a batch's statistics become its own
    part = slice(mine.start * size, mine.stop * size)
    with precision.autocast():
        batches = plain_batches(
            shuffled, part, size, height, width, mean=model.mean, std=model.std, device=next(model.parameters()).device
        )
        for done, x_BCHW in enumerate(batches, 1):
            for encoder in encoders:
                encoder(precision.layout(x_BCHW))
            for layer, sum_2c in zip(layers, sums, strict=True):
                sum_2c += torch.stack(_statistics(layer))
            if progress is not None:
                progress(done * size)
    for layer, sum_2c, (momentum, group, frozen) in zip(layers, sums, usual, strict=True):
        layer.momentum, layer.group, layer.frozen = momentum, group, frozen
        mean_2c = processes.mean(sum_2c) * processes.world / (len(images) // size)
        for own_c, mean_c in zip(_statistics(layer), mean_2c, strict=True):
            own_c.copy_(mean_c)
    model.train(training)


def _statistics(layer: GroupedBatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    assert layer.running_mean is not None and layer.running_var is not None
    return layer.running_mean, layer.running_var

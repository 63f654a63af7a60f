"""Features for clustering and matching: the model in evaluation mode, images without augmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from distreid.common.errors import UserError
from distreid.data.loader import View, plain_batches
from distreid.models import ReIDNetwork
from distreid.training.engine import Precision
from distreid.training.memory import InParts, PassSize


def extract(
    model: ReIDNetwork,
    images: View,
    part: slice | None = None,
    *,
    height: int,
    width: int,
    batch: int | Literal["auto"] | PassSize = "auto",
    precision: Precision | None = None,
    flip: bool = False,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """What is matched (DAAM: f_sh) of images part.start .. part.stop-1 (all), float32 [n, c], not normalised.

    Args:
        batch: images per forward pass, auto: what suits the device; half as many, a quarter … where memory does not hold them. A
            :class:`PassSize` remembers that for the next call.
        precision: float32 unless given.
        flip: average the features of each image and its mirror image.
        progress: called with the number of images done.

    Raises:
        UserError: a feature is not finite (the model has diverged).
    """
    device = next(model.parameters()).device
    part, precision = part or slice(0, len(images)), precision or Precision("fp32", device)

    def matched(x_BCHW: torch.Tensor) -> torch.Tensor:
        f_Bc = model.features(precision.layout(x_BCHW))
        return (f_Bc + model.features(precision.layout(x_BCHW.flip(3)))) / 2 if flip else f_Bc

    size = batch if isinstance(batch, PassSize) else PassSize(batch)
    training, forward = model.training, InParts(matched, size)
    model.eval()
    # In one piece from the beginning: small pieces that stay, between the large maps that come and go, would scatter over the heap.
    features_nc = torch.empty(part.stop - part.start, model.feature_channels)
    done = 0
    with torch.inference_mode(), precision.autocast():
        at_once = size.find(matched, device, height, width)
        for x_BCHW in plain_batches(images, part, at_once, height, width, mean=model.mean, std=model.std, device=device):
            features_nc[done : done + len(x_BCHW)] = forward(x_BCHW)
            done += len(x_BCHW)
            if progress is not None:
                progress(done)
    forward.tell()
    model.train(training)
    features = features_nc.numpy()
    if not np.isfinite(features).all():
        raise UserError("the model gives features that are not finite: it has diverged; lower the learning rate")
    return features

"""Features for clustering and matching: the model in evaluation mode, images without augmentation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from distreid.common.errors import UserError
from distreid.data.loader import Images, plain_batches
from distreid.models import ReIDNetwork
from distreid.training.engine import Precision


def extract(
    model: ReIDNetwork,
    images: Images,
    part: slice | None = None,
    *,
    height: int,
    width: int,
    batch: int = 128,
    precision: Precision | None = None,
    flip: bool = False,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """What is matched (DAAM: f_sh) of images part.start .. part.stop-1 (all), float32 [n, c], not normalised.

    Args:
        batch: images per forward pass.
        precision: float32 unless given.
        flip: average the features of each image and its mirror image.
        progress: called with the number of images done.

    Raises:
        UserError: a feature is not finite (the model has diverged).
    """
    device = next(model.parameters()).device
    part, precision = part or slice(0, len(images)), precision or Precision("fp32", device)
    training = model.training
    model.eval()
    done, parts = 0, []
    with torch.inference_mode(), precision.autocast():
        for x_BCHW in plain_batches(images, part, batch, height, width, mean=model.mean, std=model.std, device=device):
            x_BCHW = precision.layout(x_BCHW)
            f_Bc = model.features(x_BCHW)
            if flip:
                f_Bc = (f_Bc + model.features(precision.layout(x_BCHW.flip(3)))) / 2
            parts.append(f_Bc.float().cpu())
            done += len(f_Bc)
            if progress is not None:
                progress(done)
    model.train(training)
    features = torch.cat(parts).numpy() if parts else np.zeros((0, model.feature_channels), np.float32)
    if not np.isfinite(features).all():
        raise UserError("the model gives features that are not finite: it has diverged; lower the learning rate")
    return features

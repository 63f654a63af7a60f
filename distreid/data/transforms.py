"""Augmentation of whole batches: random flip, crop after padding, erasing.

The random numbers of a global batch are drawn at once, so that image i gets the same ones on any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# ImageNet statistics, which torchvision's pre-trained weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Draws:
    """One row of random numbers for each image of a batch.

    Attributes:
        flip_B: mirror the image; bool [B].
        top_B, left_B: corner of the crop within the padded image, pixels; int64 [B].
        erase_B4: erased rectangle top, left, height, width in pixels of the output, height 0 for none; int64 [B, 4].
    """

    flip_B: np.ndarray
    top_B: np.ndarray
    left_B: np.ndarray
    erase_B4: np.ndarray

    def __getitem__(self, part: slice) -> Draws:
        return Draws(self.flip_B[part], self.top_B[part], self.left_B[part], self.erase_B4[part])


def draw(rng: np.random.Generator, batch: int, height: int, width: int, *, flip: float, pad: int, erase: float) -> Draws:
    """Draw the augmentation of ``batch`` images of ``height`` x ``width`` pixels.

    Args:
        flip, erase: probabilities.
        pad: pixels of zero padding on each side before the crop back to the size.
    """
    return Draws(
        flip_B=rng.random(batch) < flip,
        top_B=rng.integers(0, 2 * pad + 1, batch),
        left_B=rng.integers(0, 2 * pad + 1, batch),
        erase_B4=_draw_rectangles(rng, batch, height, width) * (rng.random(batch) < erase)[:, None],
    )


def _draw_rectangles(rng: np.random.Generator, batch: int, height: int, width: int, attempts: int = 10) -> np.ndarray:
    """Zhong et al. 2017b: area uniform in 2-40% of the image, aspect ratio uniform in 0.3-3.33, redrawn until it fits."""
    area = rng.uniform(0.02, 0.4, (attempts, batch)) * height * width
    aspect = rng.uniform(0.3, 1 / 0.3, (attempts, batch))
    h = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    w = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (h < height) & (w < width)
    first = fits.argmax(0), np.arange(batch)
    h, w = np.where(fits.any(0), h[first], 0), w[first]
    top = (rng.random(batch) * (height - h + 1)).astype(np.int64)
    left = (rng.random(batch) * np.maximum(width - w + 1, 1)).astype(np.int64)
    return np.stack([top, left, h, w], 1)


def augment(x_BCHW: Tensor, draws: Draws, pad: int) -> Tensor:
    """uint8 images [B, 3, H, W] -> augmented, normalised float32 [B, 3, H, W] in channels_last layout, on the same device."""
    b, _, height, width = x_BCHW.shape
    device = x_BCHW.device

    def to(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    padded = torch.nn.functional.pad(x_BCHW, (pad, pad, pad, pad))
    row_H, column_W = torch.arange(height, device=device), torch.arange(width, device=device)
    rows_BH = to(draws.top_B)[:, None] + row_H
    columns_BW = to(draws.left_B)[:, None] + torch.where(to(draws.flip_B)[:, None], width - 1 - column_W, column_W)
    cropped_BHWC = padded[torch.arange(b, device=device)[:, None, None], :, rows_BH[:, :, None], columns_BW[:, None, :]]
    out_BCHW = normalize(cropped_BHWC.permute(0, 3, 1, 2))
    top_B, left_B, height_B, width_B = to(draws.erase_B4).unbind(1)
    in_rows_BH = (row_H >= top_B[:, None]) & (row_H < (top_B + height_B)[:, None])
    in_columns_BW = (column_W >= left_B[:, None]) & (column_W < (left_B + width_B)[:, None])
    # Zero after normalisation is the mean colour.
    return out_BCHW.masked_fill_((in_rows_BH[:, :, None] & in_columns_BW[:, None, :])[:, None], 0.0)


def normalize(x_BCHW: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] -> float32, mean 0 and deviation 1 by ImageNet's statistics."""
    mean = torch.tensor(MEAN, device=x_BCHW.device)[:, None, None] * 255
    std = torch.tensor(STD, device=x_BCHW.device)[:, None, None] * 255
    return (x_BCHW.float() - mean) / std

"""Augmentation of whole batches: random flip, crop after padding, erasing.

The random numbers of a global batch are drawn at once, so that image i gets the same ones on any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distreid.common.transfer import send

Colour = Sequence[float] | Tensor
"""Red, green and blue of a mean or a deviation, for pixels in [0, 1]."""

Layout = Callable[[Tensor], Tensor]


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

    def table(self) -> np.ndarray:
        """All of it side by side, int64 [B, 7], which travels to the device at once."""
        return np.column_stack([self.flip_B, self.top_B, self.left_B, self.erase_B4]).astype(np.int64)


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


def augment(
    x_BCHW: Tensor, draws: Draws | Tensor, pad: int, mean: Colour, std: Colour, layout: Layout = torch.Tensor.contiguous
) -> Tensor:
    """uint8 images [B, 3, H, W] -> augmented, normalised float32 [B, 3, H, W], on the same device.

    What is erased has the mean colour: 0 after normalisation. ``layout`` is applied to the bytes, where it costs least. ``draws``
    may be its table, int64 [B, 7], where that is on the device already. A CPU goes image by image where it has the draws
    themselves: less work than indexing every pixel, and the same bits.
    """
    if isinstance(draws, Draws) and x_BCHW.device.type == "cpu":
        return _augment_each(x_BCHW, draws, pad, mean, std, layout)
    b, _, height, width = x_BCHW.shape
    device = x_BCHW.device
    table_B7 = send(draws.table(), device) if isinstance(draws, Draws) else draws
    flip_B, top_B, left_B, *erase = table_B7.unbind(1)
    padded = torch.nn.functional.pad(x_BCHW, (pad, pad, pad, pad))
    row_H, column_W = torch.arange(height, device=device), torch.arange(width, device=device)
    rows_BH = top_B[:, None] + row_H
    columns_BW = left_B[:, None] + torch.where(flip_B[:, None] > 0, width - 1 - column_W, column_W)
    cropped_BHWC = padded[torch.arange(b, device=device)[:, None, None], :, rows_BH[:, :, None], columns_BW[:, None, :]]
    out_BCHW = normalize(layout(cropped_BHWC.permute(0, 3, 1, 2)), mean, std)
    first_row_B, first_column_B, height_B, width_B = erase
    in_rows_BH = (row_H >= first_row_B[:, None]) & (row_H < (first_row_B + height_B)[:, None])
    in_columns_BW = (column_W >= first_column_B[:, None]) & (column_W < (first_column_B + width_B)[:, None])
    return out_BCHW.masked_fill_((in_rows_BH[:, :, None] & in_columns_BW[:, None, :])[:, None], 0.0)


def _augment_each(x_BCHW: Tensor, draws: Draws, pad: int, mean: Colour, std: Colour, layout: Layout) -> Tensor:
    """Each image from the first step to the last: it stays in the cache meanwhile."""
    height, width = x_BCHW.shape[2:]
    padded, out_BCHW = torch.nn.functional.pad(x_BCHW, (pad, pad, pad, pad)), layout(torch.empty_like(x_BCHW, dtype=torch.float32))
    mean_C11, std_C11 = _in_pixels(mean, x_BCHW.device), _in_pixels(std, x_BCHW.device)
    for out, whole, (flip, top, left, row, column, rows, columns) in zip(out_BCHW, padded, draws.table().tolist(), strict=True):
        crop = whole[:, top : top + height, left : left + width]
        out.copy_(crop.flip(2) if flip else crop).sub_(mean_C11).div_(std_C11)
        out[:, row : row + rows, column : column + columns] = 0.0
    return out_BCHW


def normalize(x_BCHW: Tensor, mean: Colour, std: Colour) -> Tensor:
    """uint8 [B, 3, H, W] -> (x / 255 - mean) / std, float32. Both belong to the network that is to see the images."""
    return (x_BCHW.float() - _in_pixels(mean, x_BCHW.device)) / _in_pixels(std, x_BCHW.device)


def _in_pixels(colour: Colour, device: torch.device) -> Tensor:
    """float32 [3, 1, 1], for pixels from 0 to 255."""
    return torch.as_tensor(colour, dtype=torch.float32, device=device)[:, None, None] * 255

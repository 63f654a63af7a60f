"""Images of a view as the report shows them."""

from __future__ import annotations

import numpy as np

from distreid.data import ImageStore
from distreid.data.loader import View
from distreid.methods.exhibits import Crop

HEIGHT, WIDTH = 128, 64  # pixels


def thumbnails(images: View, index: np.ndarray) -> list[Crop]:
    """The images ``index`` with what their data set knows of them."""
    store, rows = store_of(images), images.rows[index]
    pixels_BHW3 = store.read(rows, HEIGHT, WIDTH).permute(0, 2, 3, 1).numpy()
    return [
        Crop(pixels, str(store.paths[row]), int(store.pids[row]), int(store.camids[row]))
        for row, pixels in zip(rows, pixels_BHW3, strict=True)
    ]


def store_of(images: View) -> ImageStore:
    """The packed data set behind a network's images."""
    assert isinstance(images.store, ImageStore)
    return images.store


def subsample(values: np.ndarray, count: int) -> np.ndarray:
    """``count`` of the values at even steps, or all if there are fewer."""
    count = min(count, len(values))
    return values[np.arange(count) * len(values) // max(count, 1)]

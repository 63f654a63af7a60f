"""Pixels to pictures within the page: JPEG as `data:` addresses, and attention maps as colours over an image."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

_QUALITY = 80
# Dark blue over green and yellow to red, at even steps; readable over grey images and, in order of lightness, by the colour-blind.
_HEAT = np.array(
    [[28, 36, 110], [36, 92, 180], [45, 150, 190], [95, 195, 150], [190, 220, 100], [250, 205, 70], [245, 140, 50], [205, 45, 40]]
)
_CLEAR = 0.45  # share of the image that shows through the colours


@dataclass(frozen=True)
class Image:
    """source: a data: address; alternative: what it shows, in words."""

    source: str
    width: int
    height: int
    alternative: str


def picture(pixels_HW3: NDArray[np.uint8], alternative: str) -> Image:
    height, width = pixels_HW3.shape[:2]
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels_HW3).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Image(source, width, height, alternative)


def heat(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Values in [0, 1], any shape, to RGB in [0, 255]: shape + [3]."""
    at = np.clip(values, 0, 1) * (len(_HEAT) - 1)
    return np.stack([np.interp(at, np.arange(len(_HEAT)), _HEAT[:, channel]) for channel in range(3)], axis=-1)


def overlay(pixels_HW3: NDArray[np.uint8], map_hw: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """The image in grey below the map's colours, the map enlarged bilinearly; low..high is the range of the colours."""
    height, width = pixels_HW3.shape[:2]
    scaled = PIL.Image.fromarray(((map_hw - low) / max(high - low, 1e-9)).astype(np.float32))
    map_HW = np.asarray(scaled.resize((width, height), PIL.Image.Resampling.BILINEAR))
    grey_HW1 = pixels_HW3.mean(axis=2, keepdims=True)
    return np.rint(_CLEAR * grey_HW1 + (1 - _CLEAR) * heat(map_HW)).astype(np.uint8)

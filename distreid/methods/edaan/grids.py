"""What a translator does, as a picture: image, translation, attention mask and reconstruction side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distreid.common.files import atomic_write
from distreid.data.loader import View
from distreid.data.transforms import normalize
from distreid.models import EDAAN

ROWS, GAP = 4, 4  # images of each domain; pixels between the cells
HEIGHT = 128  # at least: smaller images are enlarged, pixel by pixel


def save_pictures(file: Path, model: EDAAN, source: View, target: View, height: int, width: int) -> None:
    """A PNG grid. Left half: source images, their translations, masks and reconstructions; right half: the target's."""
    assert model.source is not None and model.target is not None
    device = next(model.parameters()).device
    columns: list[Tensor] = []
    with torch.no_grad():
        for images, there, back in ((source, model.source, model.target), (target, model.target, model.source)):
            rows = np.linspace(0, len(images) - 1, min(ROWS, len(images))).astype(np.int64)
            x_BCHW = normalize(images.read(rows, height, width).to(device), model.mean, model.std)
            out = there(x_BCHW)
            mask_B1HW = out.mask_B1HW if out.mask_B1HW is not None else torch.zeros_like(x_BCHW[:, :1])
            columns += [x_BCHW, out.image_BCHW, (2 * mask_B1HW - 1).expand_as(x_BCHW), back(out.image_BCHW).image_BCHW]
    scale = max(1, HEIGHT // height)
    height, width = scale * height, scale * width
    count = max(len(column) for column in columns)
    sheet = Image.new("RGB", (len(columns) * (width + GAP) + 3 * GAP, count * (height + GAP) + GAP), "white")
    for across, column in enumerate(columns):
        left = GAP + across * (width + GAP) + 2 * GAP * (across >= len(columns) // 2)
        for down, pixels_HWC in enumerate(to_pixels(column)):
            cell = Image.fromarray(pixels_HWC).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(cell, (left, GAP + down * (height + GAP)))
    with atomic_write(file) as stream:
        sheet.save(stream, format="PNG")


def to_pixels(x_BCHW: Tensor) -> np.ndarray:
    """Signed images, or masks in one channel, to uint8 [B, H, W, C]."""
    return ((x_BCHW.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

"""A translation measured on data whose true foreground is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from distreid.common.errors import UserError
from distreid.data import ImageStore
from distreid.evaluation import changed_share, color_distance, foreground_iou


def measure(
    before: ImageStore,
    ground_truth: Path,
    images: Path,
    masks: Path | None,
    *,
    target: ImageStore | None = None,
    target_ground_truth: Path | None = None,
) -> dict[str, float]:
    """What `translate` did to ``before``: the masks' foreground IoU, the shares of pixels changed, the background's colours.

    Args:
        ground_truth, target_ground_truth: folders of masks laid out like the data set, as ``distreid synth --masks`` writes.
        images, masks: what `translate` wrote.
        target: whose background the translated one should resemble; its training images are taken.
    """
    after = ImageStore.open(images)
    width, height = (int(pixels) for pixels in after.sizes_N2[0])
    row_of = {path: row for row, path in enumerate(before.paths.tolist())}
    rows = np.array([row_of[path] for path in after.paths.tolist()])
    truth_NHW = _truth(before, rows, ground_truth, height, width)
    old, new = _pixels(before, rows, height, width), _pixels(after, np.arange(len(after)), height, width)
    figures = {
        "foreground_changed": changed_share(old, new, truth_NHW),
        "background_changed": changed_share(old, new, ~truth_NHW),
    }
    if masks is not None:
        mask_NHW = _pixels(ImageStore.open(masks), np.arange(len(after)), height, width)[..., 0] >= 128
        figures["foreground_iou"] = foreground_iou(mask_NHW, truth_NHW)
    if target is not None and target_ground_truth is not None:
        others = np.flatnonzero(target.splits == "train")
        wanted = _pixels(target, others, height, width)[~_truth(target, others, target_ground_truth, height, width)]
        figures["background_distance_before"] = color_distance(old[~truth_NHW], wanted)
        figures["background_distance_after"] = color_distance(new[~truth_NHW], wanted)
    return figures


def _pixels(store: ImageStore, rows: np.ndarray, height: int, width: int) -> np.ndarray:
    return store.read(rows, height, width).permute(0, 2, 3, 1).numpy()


def _truth(store: ImageStore, rows: np.ndarray, folder: Path, height: int, width: int) -> np.ndarray:
    """True masks, bool [N, H, W]."""
    ground_truth = np.zeros((len(rows), height, width), dtype=bool)
    for place, path in enumerate(store.paths[rows].tolist()):
        file = folder / Path(path).with_suffix(".png")
        try:
            with Image.open(file) as image:
                ground_truth[place] = np.asarray(image.convert("L").resize((width, height), Image.Resampling.BILINEAR)) >= 128
        except OSError:
            raise UserError(f"{file}: no such mask; give the folder `masks` that `distreid synth --masks` wrote") from None
    return ground_truth

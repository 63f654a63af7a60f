"""How a translation treats people, where the true foreground is known (drawn data). Images are uint8 [N, H, W, 3]."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

CHANGED = 26
"""A pixel counts as changed when a channel differs by more than this, a tenth of the range."""


def foreground_iou(mask_NHW: Mask, truth_NHW: Mask) -> float:
    """Intersection over union of the foreground, mean over the images; 1 where both are empty."""
    both, either = (mask_NHW & truth_NHW).sum((1, 2)), (mask_NHW | truth_NHW).sum((1, 2))
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())


def changed_share(before_NHWC: Pixels, after_NHWC: Pixels, where_NHW: Mask) -> float:
    """Share of the pixels of ``where`` that a translation changed by more than `CHANGED`; 0 where there are none."""
    difference_NHW = np.abs(before_NHWC.astype(np.int16) - after_NHWC.astype(np.int16)).max(3)
    return float((difference_NHW[where_NHW] > CHANGED).mean()) if where_NHW.any() else 0.0


def color_distance(a_NC: Pixels, b_MC: Pixels) -> float:
    """Distance of two sets of pixels as colours: the first Wasserstein distance of each channel, mean over the channels, in levels.

    For a channel this is the area between the two cumulative histograms. Raises ValueError for an empty set.
    """
    if not len(a_NC) or not len(b_MC):
        raise ValueError("no pixels to compare")

    def cumulative(values: Pixels) -> npt.NDArray[np.float64]:
        return np.cumsum(np.bincount(values, minlength=256)) / len(values)

    return float(np.mean([np.abs(cumulative(a_NC[:, c]) - cumulative(b_MC[:, c])).sum() for c in range(a_NC.shape[1])]))

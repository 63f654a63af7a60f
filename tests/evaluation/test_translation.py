"""Measures of a translation against counting by hand."""

import numpy as np
import pytest

from distreid.evaluation import changed_share, color_distance, foreground_iou


def test_iou_is_the_mean_over_images() -> None:
    mask, truth = np.zeros((3, 2, 2), bool), np.zeros((3, 2, 2), bool)
    mask[0, 0], truth[0, :, 0] = True, True  # one pixel of three
    mask[1], truth[1] = True, True
    assert foreground_iou(mask, truth) == pytest.approx((1 / 3 + 1 + 1) / 3)


def test_a_changed_pixel_differs_by_more_than_a_tenth_in_some_channel() -> None:
    before = np.full((1, 2, 2, 3), 100, np.uint8)
    after = before.copy()
    after[0, 0, 0, 2], after[0, 0, 1, 0], after[0, 1, 0, 1] = 127, 126, 73
    assert changed_share(before, after, np.ones((1, 2, 2), bool)) == 0.5
    assert changed_share(before, after, np.array([[[False, True], [False, False]]])) == 0
    assert changed_share(before, after, np.zeros((1, 2, 2), bool)) == 0


def test_color_distance_is_wassersteins() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (500, 3)).astype(np.uint8), rng.integers(50, 120, (500, 3)).astype(np.uint8)
    # Of sets of the same size: the mean distance of the sorted values.
    expected = np.mean([np.abs(np.sort(a[:, c].astype(float)) - np.sort(b[:, c].astype(float))).mean() for c in range(3)])
    assert color_distance(a, b) == pytest.approx(expected)
    assert color_distance(a, a[::-1]) == 0 and color_distance(a, b) == color_distance(b, a)
    with pytest.raises(ValueError, match="no pixels"):
        color_distance(a[:0], b)

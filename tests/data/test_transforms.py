from functools import partial

import numpy as np
import torch

from distreid.data.transforms import augment, draw, normalize

MEAN, STD = (0.485, 0.5, 0.25), (0.229, 0.5, 0.4)


def _naive(image: np.ndarray, flip: bool, top: int, left: int, rectangle: np.ndarray, pad: int) -> np.ndarray:
    """One image, step by step, as a reader of the definition would write it."""
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 2 * pad, width + 2 * pad), np.uint8)
    padded[:, pad : pad + height, pad : pad + width] = image
    out = padded[:, top : top + height, left : left + width].astype(np.float64)
    if flip:
        out = out[:, :, ::-1].copy()
    for channel in range(channels):
        out[channel] = (out[channel] / 255 - MEAN[channel]) / STD[channel]
    y, x, h, w = rectangle
    out[:, y : y + h, x : x + w] = 0
    return out


def test_a_batch_equals_images_one_by_one() -> None:
    images = torch.randint(0, 256, (40, 3, 24, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draws = draw(np.random.default_rng(0), 40, 24, 12, flip=0.5, pad=3, erase=0.5)
    out = augment(images, draws, 3, MEAN, STD)
    for i in range(40):
        expected = _naive(images[i].numpy(), draws.flip_B[i], draws.top_B[i], draws.left_B[i], draws.erase_B4[i], 3)
        np.testing.assert_allclose(out[i].numpy(), expected, atol=1e-5)
    assert out.is_contiguous()
    layout = partial(torch.Tensor.contiguous, memory_format=torch.channels_last)
    last = augment(images, draws, 3, MEAN, STD, layout)
    assert last.is_contiguous(memory_format=torch.channels_last) and torch.equal(last, out)
    for kind in (torch.Tensor.contiguous, layout):  # as a GPU does it
        kernels = augment(images, torch.from_numpy(draws.table()), 3, MEAN, STD, kind)
        assert torch.equal(kernels, out) and kernels.stride() == augment(images, draws, 3, MEAN, STD, kind).stride()
    assert 5 < draws.flip_B.sum() < 35 and 5 < (draws.erase_B4[:, 2] > 0).sum() < 35


def test_a_slice_of_the_draws_augments_a_slice_of_the_batch() -> None:
    images = torch.randint(0, 256, (8, 3, 24, 12), dtype=torch.uint8)
    draws = draw(np.random.default_rng(1), 8, 24, 12, flip=0.5, pad=3, erase=0.5)
    whole = augment(images, draws, 3, MEAN, STD)
    assert torch.equal(whole[4:], augment(images[4:], draws[4:], 3, MEAN, STD))


def test_switched_off_it_only_normalises() -> None:
    images = torch.randint(0, 256, (4, 3, 24, 12), dtype=torch.uint8)
    draws = draw(np.random.default_rng(1), 4, 24, 12, flip=0.0, pad=0, erase=0.0)
    assert torch.equal(augment(images, draws, 0, MEAN, STD), normalize(images, MEAN, STD))


def test_rectangles_fit_and_have_the_stated_areas() -> None:
    rectangles = draw(np.random.default_rng(0), 5000, 128, 64, flip=0, pad=0, erase=1.0).erase_B4
    top, left, height, width = rectangles.T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 128).all() and (left + width <= 64).all()
    area = height * width / (128 * 64)
    assert area.min() > 0.015 and area.max() < 0.41 and (height > 0).mean() > 0.999

"""Loss, memory and sampling of contrast against slow loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distreid.methods.contrast.classes import Classes
from distreid.methods.contrast.memory import class_centers, contrastive_loss, turns_of, update_memory
from distreid.training import ProcessGroup


def units(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def test_the_loss_is_the_equation() -> None:
    rng = np.random.default_rng(0)
    f_BD, memory_KD, class_B = units(rng, 6, 8), units(rng, 5, 8), rng.integers(0, 5, 6)
    slow = []
    for f, y in zip(f_BD.astype(np.float64), class_B, strict=True):
        powers = [np.exp(sum(a * b for a, b in zip(f, m, strict=True)) / 0.05) for m in memory_KD.astype(np.float64)]
        slow.append(-np.log(powers[y] / sum(powers)))
    got = contrastive_loss(torch.tensor(f_BD), torch.tensor(memory_KD), torch.tensor(class_B), 0.05)
    np.testing.assert_allclose(got, slow, rtol=1e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.2, 1.0])
def test_the_memory_follows_image_after_image(momentum: float) -> None:
    rng = np.random.default_rng(1)
    f_BD, before_KD, class_B = units(rng, 40, 8), units(rng, 7, 8), rng.integers(0, 6, 40)  # nobody is of the last class
    slow_KD = before_KD.astype(np.float64)
    for f, y in zip(f_BD, class_B, strict=True):
        moved = momentum * slow_KD[y] + (1 - momentum) * f
        slow_KD[y] = moved / np.sqrt(sum(moved * moved))
    memory_KD = torch.tensor(before_KD)
    update_memory(memory_KD, torch.tensor(f_BD), class_B, momentum)
    np.testing.assert_allclose(memory_KD, slow_KD, atol=1e-6)
    np.testing.assert_array_equal(memory_KD[6], before_KD[6])


def test_turns_hold_each_image_once_and_each_class_at_most_once_in_order() -> None:
    class_B = np.array([3, 1, 3, 3, 0, 1])
    assert [turn.tolist() for turn in turns_of(class_B)] == [[0, 1, 4], [2, 5], [3]]


def test_centers_are_the_means_of_unit_features() -> None:
    rng = np.random.default_rng(2)
    features_nD, labels_n = rng.normal(size=(9, 4)).astype(np.float32), np.array([0, 1, 2] * 3)
    got = class_centers(ProcessGroup(), features_nD, labels_n, 3)
    for k in range(3):
        mean = sum(f / np.linalg.norm(f) for f in features_nD[labels_n == k].astype(np.float64)) / 3
        np.testing.assert_allclose(got[k], mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("outliers", [False, True])
def test_rows_of_the_memory(outliers: bool) -> None:
    labels_N = np.array([1, -1, 0, -1, -1, 1])
    classes = Classes.of(np.array([0, 1, 2, 0]), 3, labels_N, 2, outliers=outliers)
    if outliers:
        assert classes.target_N.tolist() == [4, 5, 3, 6, 7, 4] and classes.outliers.tolist() == [1, 3, 4]
        together = classes.together(2, [0])
        assert together[labels_N >= 0].tolist() == [4, 3, 4] and sorted(together[labels_N < 0]) == [5, 5, 6]
        assert sorted(classes.together(1, [0])[labels_N < 0]) == [5, 6, 7]
    else:
        assert classes.target_N.tolist() == [4, -1, 3, -1, -1, 4] and len(classes.outliers) == 0
        assert classes.together(2, [0]).tolist() == classes.target_N.tolist()

"""Equations 6 and 7 of EDAAN against loops over every tuple."""

import math
from itertools import product

import pytest
import torch

from distreid.losses import quartet_loss, triplet_loss

MARGIN = 0.7


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm())


def batch(seed: int = 0, labels: tuple[int, ...] = (0, 0, 0, 1, 1, 2, 2, 3)) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(seed)), torch.tensor(labels)


def hinge(z: float) -> float:
    # max{z, tau} - tau with tau = -margin, as the equations are printed.
    return max(z, -MARGIN) + MARGIN


@pytest.mark.parametrize("seed", range(3))
def test_all_triplets(seed: int) -> None:
    x, y = batch(seed)
    values = [
        hinge(distance(x[i], x[j]) - distance(x[i], x[k]))
        for i, j, k in product(range(len(y)), repeat=3)
        if i != j and y[i] == y[j] and y[k] != y[i]
    ]
    torch.testing.assert_close(triplet_loss(x, y, margin=MARGIN, mining="all"), torch.tensor(values).mean())


@pytest.mark.parametrize("seed", range(3))
def test_all_quartets(seed: int) -> None:
    x, y = batch(seed)
    values = [
        hinge(2 * distance(x[i], x[j]) - distance(x[i], x[k]) - distance(x[m], x[k]))
        for i, j, k, m in product(range(len(y)), repeat=4)
        if i != j and y[i] == y[j] and len({int(y[i]), int(y[k]), int(y[m])}) == 3
    ]
    torch.testing.assert_close(quartet_loss(x, y, margin=MARGIN, mining="all"), torch.tensor(values).mean())


@pytest.mark.parametrize("seed", range(3))
def test_hardest_tuples(seed: int) -> None:
    x, y = batch(seed)
    triplets, soft, quartets = [], [], []
    for i in range(len(y)):
        positives = [j for j in range(len(y)) if j != i and y[j] == y[i]]
        if not positives:
            continue  # identity 3 has one image
        d12 = max(distance(x[i], x[j]) for j in positives)
        three = min((k for k in range(len(y)) if y[k] != y[i]), key=lambda k: distance(x[i], x[k]))
        d13 = distance(x[i], x[three])
        d43 = min(distance(x[m], x[three]) for m in range(len(y)) if y[m] not in (y[i], y[three]))
        triplets.append(hinge(d12 - d13))
        soft.append(math.log(1 + math.exp(d12 - d13)))
        quartets.append(hinge(2 * d12 - d13 - d43))
    torch.testing.assert_close(triplet_loss(x, y, margin=MARGIN), torch.tensor(triplets).mean())
    torch.testing.assert_close(triplet_loss(x, y, margin="soft"), torch.tensor(soft).mean())
    torch.testing.assert_close(quartet_loss(x, y, margin=MARGIN), torch.tensor(quartets).mean())


@pytest.mark.parametrize("mining", ["hard", "all"])
@pytest.mark.parametrize("labels", [(0, 0, 0), (0, 1, 2), (0, 0, 1, 1)])
def test_without_a_tuple_the_loss_is_zero_and_has_a_gradient(mining: str, labels: tuple[int, ...]) -> None:
    x, y = batch(labels=labels)
    x.requires_grad_()
    loss = quartet_loss(x, y, margin=MARGIN, mining=mining)  # type: ignore[arg-type]
    loss.backward()
    assert float(loss.detach()) == 0 and x.grad is not None and torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("mining", ["hard", "all"])
@pytest.mark.parametrize("loss", [triplet_loss, quartet_loss])
def test_equal_embeddings_have_finite_gradients(loss, mining: str) -> None:
    x = torch.zeros(6, 4, requires_grad=True)
    loss(x, torch.tensor([0, 0, 1, 1, 2, 2]), margin=MARGIN, mining=mining).backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


def test_the_quartet_pulls_positives_together_and_negatives_apart() -> None:
    x, y = batch()
    x.requires_grad_()
    for _ in range(300):
        loss = quartet_loss(x, y, margin=MARGIN)
        (gradient,) = torch.autograd.grad(loss, x)
        x = (x - 0.1 * gradient).detach().requires_grad_()
    assert float(loss.detach()) < 0.05

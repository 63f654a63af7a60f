"""Equations 3 to 5 of EDAAN, term by term."""

import math

import pytest
import torch

from distreid.losses import adversarial_loss, attention_consistency_loss, cycle_loss


@pytest.mark.parametrize("real", [True, False])
def test_the_log_loss_is_equation_3(real: bool) -> None:
    logits = torch.tensor([[-2.0, 0.3], [1.5, 4.0]])
    naive = [-math.log(p if real else 1 - p) for p in (1 / (1 + math.exp(-z)) for z in logits.flatten().tolist())]
    assert float(adversarial_loss(logits, real=real)) == pytest.approx(sum(naive) / len(naive), rel=1e-5)


@pytest.mark.parametrize("real", [True, False])
def test_least_squares(real: bool) -> None:
    logits = torch.tensor([[-2.0, 0.3], [1.5, 4.0]])
    naive = [(z - real) ** 2 for z in logits.flatten().tolist()]
    assert float(adversarial_loss(logits, real=real, kind="squares")) == pytest.approx(sum(naive) / len(naive), rel=1e-5)


def test_a_very_sure_discriminator_gives_a_finite_loss_with_a_gradient() -> None:
    logits = torch.tensor([-500.0], requires_grad=True)
    loss = adversarial_loss(logits, real=True)
    loss.backward()
    assert float(loss.detach()) == 500 and logits.grad is not None and float(logits.grad) == -1


@pytest.mark.parametrize("loss", [cycle_loss, attention_consistency_loss])
def test_distances_are_mean_absolute_differences(loss) -> None:
    a, b = torch.rand(2, 1, 3, 2), torch.rand(2, 1, 3, 2)
    naive = [abs(float(p) - float(q)) for p, q in zip(a.flatten(), b.flatten(), strict=True)]
    assert float(loss(a, b)) == pytest.approx(sum(naive) / len(naive), rel=1e-5)
    assert float(loss(a, a)) == 0

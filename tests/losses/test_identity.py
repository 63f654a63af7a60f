import math

import pytest
import torch

from distreid.losses import domain_loss, hard_label_loss, label_smoothing_loss, soft_label_loss


def _log_softmax(row: list[float]) -> list[float]:
    top = max(row)
    total = math.log(sum(math.exp(v - top) for v in row)) + top
    return [v - total for v in row]


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4


def test_hard_label_is_equation_3(logits: torch.Tensor) -> None:
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    naive = -sum(_log_softmax(row)[y] for row, y in zip(logits.tolist(), labels.tolist(), strict=True)) / 6
    assert hard_label_loss(logits, labels).item() == pytest.approx(naive, rel=1e-6)


def test_soft_label_is_equation_5_with_rows_that_need_not_sum_to_one(logits: torch.Tensor) -> None:
    weights = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)) * 3
    naive = 0.0
    for row, own in zip(logits.tolist(), weights.tolist(), strict=True):
        naive -= sum(w * p for w, p in zip(own, _log_softmax(row), strict=True)) / 6
    assert soft_label_loss(logits, weights).item() == pytest.approx(naive, rel=1e-6)


def test_smoothing_is_uniform_over_all_classes(logits: torch.Tensor) -> None:
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    weights = torch.full((6, 5), 0.1 / 5, dtype=torch.float64)
    weights[torch.arange(6), labels] += 0.9
    assert label_smoothing_loss(logits, labels, 0.1).item() == pytest.approx(soft_label_loss(logits, weights).item(), rel=1e-6)


def test_domain_loss_is_equation_6() -> None:
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    naive = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-2))) / 2
    assert domain_loss(logits, torch.tensor([0, 1])).item() == pytest.approx(naive, rel=1e-6)


@pytest.mark.parametrize("loss", [hard_label_loss, soft_label_loss, domain_loss])
def test_an_empty_batch_gives_a_zero_with_a_gradient(loss) -> None:
    logits = torch.zeros(0, 4, requires_grad=True)
    other = torch.zeros(0, 4) if loss is soft_label_loss else torch.zeros(0, dtype=torch.int64)
    value = loss(logits, other)
    assert value.item() == 0
    value.backward()
    assert logits.grad is not None


def test_bf16_logits_are_summed_in_float32() -> None:
    logits = torch.randn(8, 1000).bfloat16()
    labels = torch.arange(8)
    torch.testing.assert_close(hard_label_loss(logits, labels), hard_label_loss(logits.float(), labels))

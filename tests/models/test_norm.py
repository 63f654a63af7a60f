import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from distreid.models import freeze_statistics, group_batchnorm


def _pair(group: int) -> tuple[nn.Module, nn.BatchNorm2d]:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(5)
    nn.init.uniform_(plain.weight)
    nn.init.uniform_(plain.bias)
    grouped = nn.BatchNorm2d(5)
    grouped.load_state_dict(plain.state_dict())
    return group_batchnorm(nn.Sequential(grouped), group), plain


def test_groups_are_normalised_one_by_one() -> None:
    model, plain = _pair(4)
    x = torch.randn(12, 5, 3, 2) * torch.arange(1, 13)[:, None, None, None]
    means, variances, outputs = [], [], []
    for part in x.split(4):
        oracle = nn.BatchNorm2d(5)
        oracle.load_state_dict(plain.state_dict())
        outputs.append(oracle(part))
        means.append(oracle.running_mean)
        variances.append(oracle.running_var)
    torch.testing.assert_close(model(x), torch.cat(outputs))
    torch.testing.assert_close(model[0].running_mean, torch.stack(means).mean(0))
    torch.testing.assert_close(model[0].running_var, torch.stack(variances).mean(0))


def test_one_group_is_plain_batch_norm_and_evaluation_uses_running_statistics() -> None:
    model, plain = _pair(6)
    x = torch.randn(6, 5, 3, 2)
    torch.testing.assert_close(model(x), plain(x))
    model.eval()
    plain.eval()
    odd = torch.randn(7, 5, 3, 2)
    torch.testing.assert_close(model(odd), plain(odd))


def test_two_workers_averaged_are_one() -> None:
    """Running statistics of two processes with a group each, averaged, are those of one process with two groups."""
    one, plain = _pair(4)
    workers = [group_batchnorm(nn.Sequential(nn.BatchNorm2d(5)), 4) for _ in range(2)]
    for worker in workers:
        worker[0].load_state_dict(plain.state_dict())
    for _ in range(3):
        x = torch.randn(8, 5, 3, 2)
        one(x)
        for worker, part in zip(workers, x.split(4), strict=True):
            worker(part)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(worker[0], name) for worker in workers]).mean(0)
        torch.testing.assert_close(getattr(one[0], name), mean)


def test_a_batch_that_the_group_does_not_divide_is_refused() -> None:
    model, _ = _pair(4)
    with pytest.raises(ValueError, match="multiple"):
        model(torch.randn(6, 5, 3, 2))


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
def test_frozen_statistics_are_kept_and_used_and_the_rest_is_trained(kind: type[nn.BatchNorm2d]) -> None:
    model = group_batchnorm(nn.Sequential(kind(5)), 4)
    model(torch.randn(8, 5, 3, 2) + 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = 3 * torch.randn(6, 5, 3, 2)  # no multiple of a group either
    expected = model.eval()(x)
    freeze_statistics(model.train(), model.parameters())
    y = model(x)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    assert model[0].weight.grad is not None and model[0].weight.grad.abs().sum() > 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    freeze_statistics(model, [])
    assert not torch.allclose(model(torch.cat([x, x[:2]]))[:6], expected)

"""Masks that depend on the step and an image's place in the global batch, and on nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from distreid.models import PlacedDropout, Rows, place_randomness


def network() -> tuple[nn.Sequential, Rows]:
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout2d(0.3), StochasticDepth(0.4, "row")), nn.Dropout(0.2))
    return model.train(), place_randomness(model)


def whole(step: int = 0) -> Tensor:
    model, rows = network()
    rows.begin_step([7, step], slice(0, 8), 8)
    return model(torch.ones(8, 4, 3, 2))


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_workers_rows_are_those_of_the_whole(workers: int, parts: int) -> None:
    """Whatever the worker drew before, and also where its slice passes in parts."""
    found = []
    for rank in range(workers):
        model, rows = network()
        held = 8 // workers
        torch.manual_seed(rank)
        rows.begin_step([7, 3], slice(rank * held, (rank + 1) * held), 8)
        model(torch.ones(held, 4, 3, 2))
        rows.begin_step([7, 0], slice(rank * held, (rank + 1) * held), 8)
        found += [model(part) for part in torch.ones(held, 4, 3, 2).chunk(parts)]
    assert torch.equal(torch.cat(found), whole())
    assert not torch.equal(whole(), whole(1))


def test_each_pass_and_each_module_draws_its_own_masks() -> None:
    rows = Rows()
    one, two = (PlacedDropout(0.5, 0, rows, number).train() for number in (0, 1))
    rows.begin_step([1], slice(0, 8), 8)
    x = torch.ones(8, 32)
    first, second = one(x), one(x)
    assert not torch.equal(first, second) and not torch.equal(first, two(x))
    rows.begin_step([2], slice(0, 8), 8)
    one(x)
    rows.begin_step([1], slice(0, 8), 8)
    assert torch.equal(one(torch.cat([x, x])), torch.cat([first, second])), "both views in one pass, or one after the other"


@pytest.mark.parametrize("module", [nn.Dropout(0.3), nn.Dropout2d(0.3), StochasticDepth(0.3, "row")])
def test_what_is_dropped_and_how_often_is_torchs(module: nn.Module) -> None:
    model = nn.Sequential(module).train()
    rows = place_randomness(model)
    rows.begin_step([0], slice(0, 2000), 2000)
    out = model(torch.ones(2000, 5, 2, 2))
    dropped = out == 0
    assert float(dropped.float().mean()) == pytest.approx(0.3, abs=0.03)
    torch.testing.assert_close(out[~dropped], torch.full_like(out[~dropped], 1 / 0.7))
    per_channel = dropped.flatten(2).float().mean(2)
    per_image = dropped.flatten(1).float().mean(1)
    whole_channels, whole_images = bool((per_channel % 1 == 0).all()), bool((per_image % 1 == 0).all())
    assert (whole_channels, whole_images) == {nn.Dropout: (False, False), nn.Dropout2d: (True, False)}.get(
        type(module), (True, True)
    )
    assert torch.equal(model.eval()(out), out)


def test_a_copy_of_the_network_trains_in_the_same_steps_and_weights_keep_their_names() -> None:
    plain = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    names = list(plain.state_dict())
    rows = place_randomness(plain)
    assert list(plain.state_dict()) == names
    copied = copy.deepcopy(plain)
    rows.begin_step([4], slice(0, 3), 3)
    assert torch.equal(plain(torch.ones(3, 2)), copied(torch.ones(3, 2)))

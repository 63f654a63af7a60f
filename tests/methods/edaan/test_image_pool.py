"""Past translations that the discriminators see again: against lists, and over two real processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distreid.methods.edaan.image_pool import ImagePool
from distreid.training import ProcessGroup
from tests.processes import on_ranks

PLACES, DEPTH, STEPS = 6, 2, 40


def fakes(step: int) -> list[torch.Tensor]:
    """Every image a number of its own: 1000 * domain + 10 * step + place."""
    numbers = 10 * step + torch.arange(PLACES, dtype=torch.float32)
    return [(1000 * domain + numbers).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 1) for domain in range(2)]


def judged(team: ProcessGroup, *, stop: int | None = None) -> list[list[list[float]]]:
    """What a process's discriminators see, [step][domain][place]; with a stop, continued there from what was saved."""
    mine = slice(PLACES * team.rank // team.world, PLACES * (team.rank + 1) // team.world)
    replay, seen = ImagePool(PLACES * DEPTH, PLACES, team), []
    for step in range(STEPS):
        if step == stop:
            replay = ImagePool(PLACES * DEPTH, PLACES, team, replay.state())
        shown = replay.exchange([fake[mine] for fake in fakes(step)], [7, step])
        assert all(torch.equal(images, images[:, :1, :1].expand_as(images)) for images in shown)
        seen.append([images[:, 0, 0, 0].tolist() for images in shown])
    return seen


def test_half_of_what_is_judged_is_old_and_swaps_with_the_new() -> None:
    seen = np.array(judged(ProcessGroup()))
    history: list[list[list[float]]] = [[[] for _ in range(PLACES)] for _ in range(2)]
    old = 0
    for step in range(STEPS):
        new = [fake[:, 0, 0, 0].tolist() for fake in fakes(step)]
        for domain in range(2):
            for place, shown in enumerate(seen[step, domain]):
                kept = history[domain][place]
                if step < DEPTH:
                    assert shown == new[domain][place]
                    kept.append(shown)
                elif shown != new[domain][place]:
                    kept[kept.index(shown)] = new[domain][place]  # it left the history as the new one entered
                    old += 1
    assert 0.4 < old / (2 * PLACES * (STEPS - DEPTH)) < 0.6
    assert not np.array_equal(seen[:, 0] % 1000, seen[:, 1] % 1000), "the domains draw apart"


def test_a_history_that_was_saved_goes_on() -> None:
    for stop in (1, DEPTH, 20):
        assert judged(ProcessGroup(), stop=stop) == judged(ProcessGroup())


def shares(rank: int, world: int) -> list[list[list[float]]]:
    return judged(ProcessGroup(rank, world), stop=20)


@pytest.mark.slow
def test_two_processes_see_what_one_sees() -> None:
    halves = on_ranks(2, shares)
    assert np.concatenate(halves, 2).tolist() == judged(ProcessGroup())


def test_without_a_history_all_is_new() -> None:
    replay = ImagePool(0, PLACES, ProcessGroup())
    assert all(torch.equal(a, b) for a, b in zip(replay.exchange(fakes(3), [1]), fakes(3), strict=True))

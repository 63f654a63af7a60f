"""Who gets which GPU and how many CPUs, from what nodes have; nothing is started."""

import pytest

from distreid.cluster.placement import SHARE, Placement, in_a_sweep, place
from distreid.common.errors import UserError
from distreid.config import RuntimeConfig
from distreid.labels import LabelSettings


def node(gpus: int, cpus: int = 8) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}


REST = 1 - SHARE


@pytest.mark.parametrize(
    ("gpus", "workers", "expected"),
    [
        ([0], 1, (0, 0)),
        ([1], 1, (REST, SHARE)),  # one GPU for both
        ([2], 1, (1, 1)),  # one for each
        ([2], 2, (REST, SHARE)),
        ([4, 4], 8, (REST, SHARE)),
        ([4, 4], 7, (1, 1)),
        ([1], 2, (0, 1)),  # too few to train on
    ],
)
def test_auto(gpus: list[int], workers: int, expected: tuple[float, float]) -> None:
    placement = place([node(count) for count in gpus], RuntimeConfig(workers=workers), LabelSettings())
    assert (placement.gpus, placement.label_gpus) == expected
    # As Ray packs them: no GPU holds two workers, and all that is asked for fits.
    assert placement.gpus == 0 or 2 * placement.gpus > 1
    assert placement.gpus + placement.label_gpus <= 1 or workers * placement.gpus + placement.label_gpus <= sum(gpus)


def test_auto_heeds_the_other_settings() -> None:
    def placed(gpus: int, labels: LabelSettings | None = None, **runtime: object) -> tuple[float, float]:
        placement = place([node(gpus)], RuntimeConfig(**runtime), labels or LabelSettings())
        return placement.gpus, placement.label_gpus

    assert placed(2, workers=1, gpu="no") == (0, 0)
    assert placed(2, LabelSettings(device="cpu"), workers=1) == (1, 0)
    assert placed(2, workers=4, min_workers=1) == (REST, SHARE), "two workers now, and more when nodes come"
    assert placed(4, LabelSettings(tasks=3), workers=4) == (REST, SHARE)
    assert placed(3, LabelSettings(tasks=3), workers=3) == (1, 0), "the actor and three tasks do not fit beside three workers"
    assert placed(5, LabelSettings(tasks=3), workers=1) == (1, 1)
    with pytest.raises(UserError, match=r"labels\.device=cuda needs a GPU, and runtime\.label_gpus=auto found none for it"):
        placed(0, LabelSettings(device="cuda"), workers=1)


def test_numbers_are_taken_as_they_are() -> None:
    assert place([node(2)], RuntimeConfig(workers=1, label_gpus=0.5), LabelSettings()) == Placement(8, 1, 0.5)
    assert place([node(2)], RuntimeConfig(workers=2, label_gpus=0), LabelSettings()) == Placement(4, 1, 0)
    assert place([node(1)], RuntimeConfig(workers=1, label_gpus=0.5), LabelSettings()) == Placement(8, 0, 0.5)
    with pytest.raises(
        UserError, match=r"runtime\.workers=2 with runtime\.gpu=yes needs as many GPUs beside those for labels; 1 are left"
    ):
        place([node(2)], RuntimeConfig(workers=2, label_gpus=0.5, gpu="yes"), LabelSettings())
    with pytest.raises(UserError, match=r"runtime\.label_gpus=2\.0: no node of this Ray has as many GPUs"):
        place([node(1), node(1)], RuntimeConfig(label_gpus=2), LabelSettings())
    with pytest.raises(UserError, match=r"labels\.tasks=3 with runtime\.label_gpus=1\.0 need 4 GPUs for labels alone"):
        place([node(2)], RuntimeConfig(label_gpus=1), LabelSettings(tasks=3))


def test_what_is_said() -> None:
    nodes = [node(1, cpus=4)]
    assert str(place(nodes, RuntimeConfig(), LabelSettings())) == "4 CPUs and 0.6 of a GPU; GPUs for labels: 0.4"
    assert str(place([node(2, cpus=1)], RuntimeConfig(), LabelSettings())) == "1 CPU and a GPU; GPUs for labels: 1"
    assert str(place([node(0)], RuntimeConfig(workers=2), LabelSettings())) == "4 CPUs"
    assert place(nodes, RuntimeConfig(), LabelSettings()).resources == {"CPU": 4, "GPU": REST}


def test_workers_that_fit_on_no_node_are_one_line() -> None:
    with pytest.raises(UserError, match=r"runtime\.workers=3 with 8 CPUs each do not fit on this Ray's nodes \(\[8, 8\] CPUs\)"):
        place([node(0), node(0)], RuntimeConfig(workers=3, cpus_per_worker=8), LabelSettings())
    assert place([node(0, 3), node(0, 3)], RuntimeConfig(workers=4), LabelSettings()).cpus == 1


def test_trials_of_a_sweep_take_what_they_are_told() -> None:
    assert in_a_sweep(RuntimeConfig(), LabelSettings()) == 0 and in_a_sweep(RuntimeConfig(label_gpus=0.5), LabelSettings()) == 0.5
    with pytest.raises(UserError, match=r"labels\.device=cuda in a sweep with Ray workers needs runtime\.label_gpus as a number"):
        in_a_sweep(RuntimeConfig(), LabelSettings(device="cuda"))

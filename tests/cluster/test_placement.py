"""Who gets which part of the GPUs; and that a real Ray, told that it has GPUs, holds what was decided."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from distreid.cluster.placement import Placement, place
from distreid.common.errors import UserError
from distreid.config import Config, config_from_dict

FOUND = {"source": {"data": "a.arrow"}, "target": {"data": "b.arrow"}, "output": "runs/x"}


def config(workers: int, *overrides: str) -> Config:
    return config_from_dict(FOUND, [f"runtime.workers={workers}", "model.batchnorm_group=4", *overrides])


def nodes(*gpus: int, cpus: int = 8) -> list[dict[str, float]]:
    return [{"CPU": cpus, "GPU": count} if count else {"CPU": cpus} for count in gpus]


@pytest.mark.parametrize(
    ("workers", "gpus", "overrides", "expected"),
    [
        # (a worker's GPU, labels' GPU)
        (1, [0], [], (0.0, 0.0)),
        (1, [1], [], (0.75, 0.25)),  # one GPU box: both on it
        (2, [1], [], (0.0, 1.0)),  # too few for the workers
        (4, [4], [], (0.75, 0.25)),
        (4, [5], [], (1.0, 1.0)),
        (4, [2, 2, 1], [], (1.0, 1.0)),
        (4, [5], ["labels.tasks=4"], (0.75, 0.25)),
        (4, [4], ["labels.tasks=4"], (0.75, 0.125)),  # five who search on four GPUs: two on one
        (4, [9], ["labels.tasks=4"], (1.0, 1.0)),
        (4, [4], ["labels.device=cpu"], (1.0, 0.0)),
        (4, [5], ["runtime.gpu=no"], (0.0, 0.0)),
        (4, [1], ["runtime.gpu=no", "labels.device=cuda"], (0.0, 1.0)),
        (4, [2], ["runtime.min_workers=2"], (0.75, 0.25)),
        (4, [4], ["runtime.label_gpus=0"], (1.0, 0.0)),
        (4, [4], ["runtime.label_gpus=0.4"], (0.6, 0.4)),
        (4, [5], ["runtime.label_gpus=0.5"], (1.0, 0.5)),  # two workers with half a GPU could lie on one
        (4, [4], ["runtime.label_gpus=0.5"], (0.0, 0.5)),
        (1, [1], ["runtime.label_gpus=0.5"], (0.5, 0.5)),
        (1, [1], ["runtime.label_gpus=1"], (0.0, 1.0)),
        (1, [2], ["runtime.label_gpus=1", "runtime.gpu=yes"], (1.0, 1.0)),
    ],
)
def test_gpus(workers: int, gpus: list[int], overrides: list[str], expected: tuple[float, float]) -> None:
    found = place(config(workers, *overrides), nodes(*gpus))
    assert (found.worker_gpus, found.label_gpus) == pytest.approx(expected)
    users = 1 + int(overrides[0][-1]) if overrides and "tasks" in overrides[0] else 1
    assert workers * found.worker_gpus + users * found.label_gpus <= sum(gpus) + 1e-9 or "min_workers" in str(overrides)


def test_cpus_are_divided_so_that_all_workers_fit() -> None:
    assert place(config(1), nodes(0)).cpus == 8
    assert place(config(2), nodes(0)).cpus == 4
    assert place(config(2), nodes(0, 0)).cpus == 8
    assert place(config(2, "runtime.cpus_per_worker=3"), nodes(0)).cpus == 3
    assert place(config(4), [{"CPU": 5}, {"CPU": 3}]).cpus == 1  # with 2 each, three would fit


@pytest.mark.parametrize(
    ("workers", "gpus", "overrides", "said"),
    [
        (1, [0], ["labels.device=cuda"], "labels.device=cuda: no node of this Ray has a GPU; use auto"),
        (1, [1, 1], ["runtime.label_gpus=2"], "runtime.label_gpus=2.0: no node of this Ray has as many GPUs"),
        (1, [1], ["runtime.label_gpus=0.5", "labels.tasks=2"], "need 2 GPUs for labels alone"),
        (
            2,
            [1],
            ["runtime.gpu=yes"],
            "runtime.workers=2 with runtime.gpu=yes needs as many GPUs beside those for labels; 0 are left",
        ),
        (
            2,
            [0],
            ["runtime.cpus_per_worker=5"],
            r"runtime.workers=2 with 5 CPUs each do not fit on this Ray's nodes \(\[8\] CPUs\)",
        ),
        (4, [0], ["runtime.min_workers=2", "runtime.cpus_per_worker=5"], "runtime.min_workers=2 with 5 CPUs each"),
    ],
)
def test_what_does_not_fit_is_one_line(workers: int, gpus: list[int], overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        place(config(workers, *overrides), nodes(*gpus))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        (Placement(2, 0.0, 0.0), "1 Ray worker, each with 2 CPUs"),
        (Placement(1, 0.75, 0.25), "1 Ray worker, each with 1 CPU and 75% of a GPU; labels on the rest of one (25%)"),
        (Placement(4, 1.0, 1.0), "1 Ray worker, each with 4 CPUs and a GPU; labels on a GPU of their own"),
        (Placement(4, 0.0, 0.5), "1 Ray worker, each with 4 CPUs; labels on a GPU (50%)"),
    ],
)
def test_it_is_said_in_one_line(placement: Placement, said: str) -> None:
    assert placement.text(1) == said


PROGRAM = """
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from distreid.cluster.placement import label_users, place
from distreid.config import config_from_dict

ray.init("local", num_cpus=8, num_gpus=3, include_dashboard=False, log_to_driver=False)

@ray.remote(num_cpus=0)
class Actor:
    def gpus(self):
        return ray.get_runtime_context().get_accelerator_ids()["GPU"]

found = {"source": {"data": "a.arrow"}, "target": {"data": "b.arrow"}, "output": "runs/x"}
fitting = ["model.batchnorm_group=4", "adapt.batch_size=24", "pretrain.batch_size=24"]
for workers, *overrides in ((2,), (3,), (3, "labels.tasks=2"), (3, "labels.tasks=7"), (1, "runtime.label_gpus=0.4")):
    run = config_from_dict(found, [f"runtime.workers={workers}", *overrides, *fitting])
    placement = place(run, [node["Resources"] for node in ray.nodes()])
    assert placement.worker_gpus and placement.label_gpus
    # In a run's order: the labelling actor, the workers, and in each round the tasks of the search.
    users = [Actor.options(num_gpus=placement.label_gpus).remote()]
    group = placement_group([placement.workers] * workers)
    assert group.wait(30), (workers, overrides, placement)
    users += [Actor.options(num_gpus=placement.label_gpus).remote() for _ in range(label_users(run) - 1)]
    assert all(len(ray.get(user.gpus.remote(), timeout=30)) == 1 for user in users)
    remove_placement_group(group)
    for user in users:
        ray.kill(user)
print("all fit")
"""


@pytest.mark.ray
def test_a_ray_holds_what_was_decided() -> None:
    """It has no GPU and believes that it has three."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0 and "all fit" in done.stdout, done.stdout + done.stderr

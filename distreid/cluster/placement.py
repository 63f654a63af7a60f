"""What a run reserves of the nodes: CPUs and GPUs of its training workers, and the labelling actor's share of a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distreid.common.errors import UserError
from distreid.common.text import plural
from distreid.config import Config, RuntimeConfig

SHARE = 0.25  # of each worker's GPU, for labels, where workers need them all: the two do not compute at the same time


@dataclass(frozen=True)
class Placement:
    """Reservations.

    Args:
        cpus: of each worker.
        worker_gpus: of each worker: 1, less where labels share its GPU, 0 where workers train on CPUs.
        label_gpus: of the labelling actor, and of each task that searches neighbours for it; 0: labels are made on CPUs.
    """

    cpus: int
    worker_gpus: float
    label_gpus: float

    @property
    def workers(self) -> dict[str, float]:
        """As Ray Train wants it."""
        return {"CPU": self.cpus} | ({"GPU": self.worker_gpus} if self.worker_gpus else {})

    def text(self, workers: int) -> str:
        """One line that says it all."""
        gpu = {0.0: "", 1.0: " and a GPU"}.get(self.worker_gpus, f" and {100 * self.worker_gpus:g}% of a GPU")
        labels = {0.0: "", 1.0: "; labels on a GPU of their own"}.get(
            self.label_gpus, f"; labels on {'a GPU' if not self.worker_gpus else 'the rest of one'} ({100 * self.label_gpus:g}%)"
        )
        return f"{plural(workers, 'Ray worker')}, each with {plural(self.cpus, 'CPU')}{gpu}{labels}"


def place(config: Config, nodes: Sequence[Mapping[str, float]]) -> Placement:
    """Decide on what the keys of `runtime` leave to "auto".

    Args:
        nodes: resources of each living node, such as {"CPU": 8.0, "GPU": 1.0}.

    Raises:
        UserError: the nodes cannot hold the run, for which Ray would wait without end.
    """
    settings, least = config.runtime, config.runtime.min_workers or config.runtime.workers
    label_gpus = label_share(config, nodes)
    worker_gpus = _worker_share(config, nodes, label_gpus, least)
    return Placement(_cpus(settings, nodes, least), worker_gpus, label_gpus)


def label_share(config: Config, nodes: Sequence[Mapping[str, float]]) -> float:
    """`runtime.label_gpus`, decided: GPUs of their own where there are more than the workers take, else a share of the workers'."""
    settings, users = config.runtime, label_users(config)
    gpus = _gpus(nodes)
    total, most = sum(gpus), max(gpus, default=0)
    share = settings.label_gpus
    if share == "auto":
        if config.labels.device == "cuda" and not total:
            raise UserError("labels.device=cuda: no node of this Ray has a GPU; use auto")
        wanted = config.labels.device != "cpu" and (config.labels.device != "auto" or settings.gpu != "no")
        if not (wanted and total):
            return 0.0
        training = settings.workers if settings.gpu != "no" and total >= (settings.min_workers or settings.workers) else 0
        return 1.0 if total >= training + users else SHARE / math.ceil(users / total)
    if share > most:
        raise UserError(f"runtime.label_gpus={share}: no node of this Ray has as many GPUs")
    if share and _room(share, gpus) < users:
        needed = math.ceil(share * users)
        raise UserError(f"labels.tasks={config.labels.tasks} with runtime.label_gpus={share} need {needed} GPUs for labels alone")
    return share


def _worker_share(config: Config, nodes: Sequence[Mapping[str, float]], label_gpus: float, least: int) -> float:
    settings, gpus = config.runtime, _gpus(nodes)
    if settings.gpu == "no":
        return 0.0
    left = sum(gpus) - math.ceil(label_gpus * label_users(config))
    if 0 < label_gpus < 1 and sum(gpus) >= least:
        share = 1 - label_gpus * math.ceil(label_users(config) / sum(gpus))
        # With half of a GPU or less, two workers could come to lie on one, where NCCL refuses to work.
        if share > 0.5 or (share > 0 and settings.workers == 1):
            return share
    if left >= least:
        return 1.0
    if settings.gpu == "yes":
        needed = f"runtime.{'min_workers' if settings.min_workers else 'workers'}={least}"
        raise UserError(f"{needed} with runtime.gpu=yes needs as many GPUs beside those for labels; {max(left, 0)} are left")
    return 0.0


def _cpus(settings: RuntimeConfig, nodes: Sequence[Mapping[str, float]], least: int) -> int:
    """Of each worker: all cores, divided, so that the workers fit on the nodes."""
    cores = [int(node.get("CPU", 0)) for node in nodes]
    cpus = settings.cpus_per_worker or max(1, min(sum(cores) // settings.workers, max(cores)))
    if not settings.cpus_per_worker:
        while cpus > 1 and sum(count // cpus for count in cores) < settings.workers:
            cpus -= 1
    if sum(count // cpus for count in cores) < least:
        needed = f"runtime.{'min_workers' if settings.min_workers else 'workers'}={least}"
        raise UserError(f"{needed} with {cpus} CPUs each do not fit on this Ray's nodes ({cores} CPUs)")
    return cpus


def _gpus(nodes: Sequence[Mapping[str, float]]) -> list[int]:
    return [int(node.get("GPU", 0)) for node in nodes]


def label_users(config: Config) -> int:
    """Processes that reserve `label_gpus`: the actor, and the tasks of its search where it does not search itself."""
    return 1 if config.labels.tasks == 1 else 1 + config.labels.tasks


def _room(share: float, gpus: Sequence[int]) -> int:
    """How many of such shares the nodes hold; no share lies on two GPUs."""
    return sum(int(count * (1 // share)) if share < 1 else int(count // share) for count in gpus)

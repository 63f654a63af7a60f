"""Which CPUs and GPUs the training workers and the labelling actor get, decided from what the nodes have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distreid.common.errors import UserError
from distreid.config import RuntimeConfig
from distreid.labels import LabelSettings

# Of a worker's GPU, for labels where no GPU is free. Less than half: two workers must not fit on one GPU.
SHARE = 0.4


@dataclass(frozen=True)
class Placement:
    """cpus, gpus: of each worker; gpus is 0, 1, or what labels leave of one. label_gpus: of the labelling actor, and of each task
    of its neighbour search where there are more than one."""

    cpus: int
    gpus: float
    label_gpus: float

    @property
    def resources(self) -> dict[str, float]:
        """What each worker reserves."""
        return {"CPU": self.cpus, "GPU": self.gpus} if self.gpus else {"CPU": self.cpus}

    def __str__(self) -> str:
        gpu = {0.0: "", 1.0: " and a GPU"}.get(self.gpus, f" and {self.gpus:g} of a GPU")
        labels = f"; GPUs for labels: {self.label_gpus:g}" if self.label_gpus else ""
        return f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}{gpu}{labels}"


def place(nodes: Sequence[Mapping[str, float]], settings: RuntimeConfig, labels: LabelSettings) -> Placement:
    """nodes: Ray's resources of each node.

    Raises:
        UserError: the nodes cannot hold what the settings ask for, for which Ray would wait without end.
    """
    least = settings.min_workers or settings.workers
    needed = f"runtime.{'min_workers' if settings.min_workers else 'workers'}={least}"
    all_gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    label_gpus, rest = _for_labels(all_gpus, least, settings, labels)
    for_labels = 0 if rest < 1 else math.ceil(label_gpus * _reservations(labels))
    if label_gpus > max((node.get("GPU", 0) for node in nodes), default=0):
        raise UserError(f"runtime.label_gpus={label_gpus}: no node of this Ray has as many GPUs")
    total_gpus = all_gpus - for_labels
    if total_gpus < 0:
        raise UserError(f"labels.tasks={labels.tasks} with runtime.label_gpus={label_gpus} need {for_labels} GPUs for labels alone")
    use_gpu = settings.gpu == "yes" or (settings.gpu == "auto" and total_gpus >= least)
    if use_gpu and total_gpus < least:
        raise UserError(f"{needed} with runtime.gpu=yes needs as many GPUs beside those for labels; {total_gpus} are left")
    return Placement(_cpus([int(node.get("CPU", 0)) for node in nodes], least, needed, settings), rest * use_gpu, label_gpus)


def in_a_sweep(settings: RuntimeConfig, labels: LabelSettings) -> float:
    """GPUs for the labels of one trial. [decided] auto is none: trials share the GPUs, and how many are left is not known before.

    UserError where labels must have one.
    """
    if settings.label_gpus != "auto":
        return settings.label_gpus
    if labels.device == "cuda":
        raise UserError("labels.device=cuda in a sweep with Ray workers needs runtime.label_gpus as a number")
    return 0.0


def _reservations(labels: LabelSettings) -> int:
    """How many take `label_gpus` at once: the labelling actor, and its tasks where there are more than one."""
    return 1 if labels.tasks == 1 else 1 + labels.tasks


def _for_labels(all_gpus: int, least: int, settings: RuntimeConfig, labels: LabelSettings) -> tuple[float, float]:
    """(GPUs for labels, what a worker has of its GPU)."""
    if settings.label_gpus != "auto":
        return settings.label_gpus, 1.0
    wanted = _reservations(labels)
    training = settings.workers if settings.gpu == "yes" or (settings.gpu == "auto" and all_gpus >= least) else 0
    if labels.device == "cpu" or settings.gpu == "no" or all_gpus < wanted:
        if labels.device == "cuda":
            raise UserError("labels.device=cuda needs a GPU, and runtime.label_gpus=auto found none for it: use labels.device=auto")
        return 0.0, 1.0
    return (1.0, 1.0) if all_gpus - training >= wanted else (SHARE, 1 - SHARE)


def _cpus(cores: list[int], least: int, needed: str, settings: RuntimeConfig) -> int:
    """Of each worker, given those of each node."""
    cpus = settings.cpus_per_worker or max(1, min(sum(cores) // settings.workers, max(cores)))
    if not settings.cpus_per_worker:
        while cpus > 1 and sum(count // cpus for count in cores) < settings.workers:
            cpus -= 1
    if sum(count // cpus for count in cores) < least:
        raise UserError(f"{needed} with {cpus} CPUs each do not fit on this Ray's nodes ({cores} CPUs)")
    return cpus

"""The neighbour search of one labelling, spread over Ray tasks: each ranks some rows against all, and the parts make the whole."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from distreid.common.errors import UserError

if TYPE_CHECKING:  # these bring numba, which only the tasks need
    from distreid.retrieval.lists import Neighbours
    from distreid.retrieval.prepare import Prepared

FEWEST_ROWS = 512  # a task: fewer are searched sooner than they travel


class SpreadSearch:
    """A :class:`distreid.retrieval.lists.Search` with the same bits as the search of one machine.

    Features travel through the object store, once to each node; every task holds its rows' candidates only. A task searches
    whole rows, while one machine alone uses that the distances are symmetric: two CPU tasks cost as much time as none, four half.
    A task whose node dies is run again by Ray.

    Args:
        tasks: how many; they reserve no CPU, for the training workers, which wait meanwhile, hold these.
        gpus: GPUs (or share of one) that each task reserves; 0: the tasks run on CPUs.
    """

    def __init__(self, tasks: int, gpus: float = 0) -> None:
        self._tasks, self._gpus = tasks, gpus

    def __call__(self, prepared: Prepared, k: int, *, apart_U: np.ndarray | None = None) -> Neighbours:
        count = len(prepared.first_U)
        tasks = min(self._tasks, -(-count // FEWEST_ROWS))
        cuts = [int(cut) for cut in np.linspace(0, count, tasks + 1)]
        threads = max(1, int(ray.cluster_resources().get("CPU", 1)) // tasks)
        whole = ray.put((prepared, apart_U))
        task = _search_part.options(num_gpus=self._gpus)
        parts = [task.remote(whole, k, groups, threads, self._gpus > 0) for groups in pairwise(cuts)]
        try:
            found = ray.get(parts)
        except UserError as error:
            # Ray's wrapper carries the task's traceback in its text; the user needs the one line.
            raise UserError(str(getattr(error, "cause", error))) from None
        return np.concatenate([rows for rows, _ in found]), np.concatenate([squared for _, squared in found])


@ray.remote(num_cpus=0, scheduling_strategy="SPREAD")
def _search_part(whole: Any, k: int, groups: tuple[int, int], threads: int, on_gpu: bool) -> Neighbours:
    import torch

    prepared, apart_U = whole
    if on_gpu:
        from distreid.labels.engines import features_on, label_device
        from distreid.labels.torch_engine import neighbours as on_device

        features = features_on(torch.device(label_device("cuda")), prepared)
        return on_device.nearest(prepared, features, k, apart_U=apart_U, queries_Q=np.arange(*groups))
    from distreid.retrieval.neighbours import nearest

    threads = min(threads, os.cpu_count() or 1)
    torch.set_num_threads(threads)  # Ray gives a task one thread
    return nearest(prepared, k, apart_U=apart_U, groups=groups, threads=threads)

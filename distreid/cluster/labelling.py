"""The labelling actor: collects every worker's shard of features, labels or scores the whole on its own device."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
import torch

from distreid.cluster.metrics import ActorMetrics
from distreid.cluster.search import SpreadSearch
from distreid.common.errors import UserError
from distreid.config import DomainConfig
from distreid.labels import LabelSettings
from distreid.methods.local import test_sets
from distreid.training.domains import TestSet, open_domain
from distreid.training.in_process import LocalEvaluator, LocalLabeler
from distreid.training.protocols import RoundLabels, ScoreFuture


@dataclass
class _Request:
    """What the workers hand in under one key, and the answer that they wait for."""

    shards: dict[int, Any] = field(default_factory=dict)
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    answered: int = 0


@ray.remote(num_cpus=0, max_restarts=-1)
class LabellingActor:
    """Labels and ranks for all workers: wraps a :class:`LocalLabeler` and a :class:`LocalEvaluator`.

    Shards and answers travel through the object store: an answer is put there once, and each node's workers map the same copy.

    Args:
        domains: source and target, whose test sets it ranks.
        gpus: what the actor and each task of its neighbour search reserve.
    """

    def __init__(self, labels: LabelSettings, domains: tuple[DomainConfig, DomainConfig] | None, gpus: float, run: str) -> None:
        # Opened here: arguments this large could be lost with a node, and a restart then fails.
        tests, camids = dict[str, TestSet](), None
        if domains is not None:
            source, target = open_domain(domains[0], labelled=True), open_domain(domains[1], labelled=False)
            tests, camids = test_sets(source, target), target.camids
        torch.set_num_threads(os.cpu_count() or 1)  # Ray gives an actor one thread; the workers are idle while it works
        # Ray does not hide a node's GPUs from an actor that reserved none.
        reserved = bool(ray.get_runtime_context().get_accelerator_ids().get("GPU"))
        device = torch.device("cuda" if reserved else "cpu")
        search = SpreadSearch(labels.tasks, 0 if labels.device == "cpu" else gpus) if labels.tasks > 1 else None
        self._labeler = LocalLabeler(labels, device, camids=camids, search=search)
        # Ranking goes on while the workers train: on a GPU that is shared with one it could take memory that this one needs.
        self._evaluator = LocalEvaluator(tests, device if gpus >= 1 else torch.device("cpu"))
        self._labeler.warm_up()
        self._metrics = ActorMetrics(run)
        self._requests: dict[str, _Request] = {}

    async def label(self, key: str, rank: int, world: int, shard: list[Any], eps: float | None) -> list[Any]:
        """``shard`` and the answer are object references in a list, so that Ray passes them on without copying."""
        return await self._gather(key, rank, world, shard, lambda features_ND: self._label(key, features_ND, eps))

    async def score(self, key: str, rank: int, world: int, shard: list[Any], test: str) -> list[Any]:
        return await self._gather(key, rank, world, shard, lambda features_nD: self._score(key, test, features_nD))

    def _label(self, key: str, features_ND: np.ndarray, eps: float | None) -> RoundLabels:
        started = time.perf_counter()
        labels = self._labeler.label(key, features_ND, eps)
        # The shards and the answer lie in the object store together, until the last worker has its answer.
        labels.figures["object_store_bytes"] = 2 * features_ND.nbytes + labels.pseudo.centers.nbytes
        self._metrics.labelled(labels, time.perf_counter() - started)
        return labels

    def _score(self, key: str, test: str, features_nD: np.ndarray) -> dict[str, float]:
        started = time.perf_counter()
        metrics = self._evaluator.score(key, test, features_nD)()
        self._metrics.scored(test, metrics, time.perf_counter() - started)
        return metrics

    async def _gather(self, key: str, rank: int, world: int, shard: list[Any], compute: Callable[[np.ndarray], Any]) -> list[Any]:
        request = self._requests.setdefault(key, _Request())
        request.shards[rank] = shard[0]
        if len(request.shards) == world:
            references = [request.shards[number] for number in range(world)]
            work = asyncio.get_running_loop().run_in_executor(None, _whole, references, compute)
            try:
                request.answer.set_result(await work)
            except Exception as error:
                request.answer.set_exception(error)
        try:
            return [await asyncio.shield(request.answer)]
        finally:
            request.answered += 1
            if request.answered == world:
                del self._requests[key]


def _whole(references: list[Any], compute: Callable[[np.ndarray], Any]) -> Any:
    shards = ray.get(references)
    return ray.put(compute(shards[0] if len(shards) == 1 else np.concatenate(shards)))


class _Remote:
    """One worker's way to the actor.

    Args:
        attempt: names this start of the workers, so that nothing of an earlier, failed one is mixed in.
    """

    def __init__(self, actor: Any, rank: int, world: int, attempt: str) -> None:
        self._actor, self._rank, self._world, self._attempt = actor, rank, world, attempt

    def _ask(self, method: Any, key: str, shard_nD: np.ndarray, extra: Any) -> Callable[[], Any]:
        """Hand in; the callable waits for the answer."""
        kept = [ray.put(shard_nD)]  # the shard stays in the store until it was used
        asked = method.remote(f"{self._attempt}/{key}", self._rank, self._world, kept, extra)

        def answer() -> Any:
            try:
                return ray.get(ray.get(asked)[0])
            except UserError as error:
                # Ray's wrapper carries the actor's traceback in its text; the user needs the one line.
                raise UserError(str(getattr(error, "cause", error))) from None
            finally:
                kept.clear()

        return answer


class RemoteLabeler(_Remote):
    """Implements :class:`distreid.training.protocols.Labeler`."""

    def label(self, key: str, shard_nD: np.ndarray, eps: float | None) -> RoundLabels:
        torch.cuda.empty_cache()  # the actor may work on the same GPU, and this process only waits
        return self._ask(self._actor.label, key, shard_nD, eps)()


class RemoteEvaluator(_Remote):
    """Implements :class:`distreid.training.protocols.Evaluator`."""

    def score(self, key: str, test: str, shard_nD: np.ndarray) -> ScoreFuture:
        return self._ask(self._actor.score, key, shard_nD, test)

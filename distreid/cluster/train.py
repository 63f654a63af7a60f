"""One run on Ray: a TorchTrainer for the workers, an actor for the labels, an actor for what the driver shows."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import socket
import uuid
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.collective
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from distreid.cluster import cluster_is_given
from distreid.cluster.labelling import LabellingActor, RemoteEvaluator, RemoteLabeler
from distreid.cluster.metrics import WorkerMetrics, advertised
from distreid.cluster.monitor import MonitorActor, RemoteReporter, Watch
from distreid.cluster.network import NodesConfig
from distreid.cluster.placement import place
from distreid.common.errors import Stopped, UserError
from distreid.common.machine import usable_cores
from distreid.common.progress import Progress
from distreid.config import Config, config_from_dict, to_dict
from distreid.methods.registry import find
from distreid.training import ProcessGroup, RunDirectory
from distreid.training.context import Context
from distreid.training.domains import DomainData, open_pair


def train(config: Config, run: RunDirectory, reporter: Progress) -> dict[str, Any]:
    """Train on Ray; ``config``'s data are packed files that every node can read. Returns what result.json holds.

    Raises:
        UserError: what a worker or the labelling actor found wrong, as one line.
    """
    reporter.stage("starting Ray", 0)
    start_ray(config.runtime.workers)
    reporter.heed_notice()  # ray.init has taken the signal over
    settings = config.runtime
    placement = place(config, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    reporter.note(placement.text(settings.workers))
    workers: Any = (
        (settings.min_workers, settings.workers) if 0 < settings.min_workers < settings.workers else settings.workers
    )  # Ray's types lack the pair
    # Beside the driver, which shares its fate.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    monitor = MonitorActor.options(scheduling_strategy=here).remote()
    actor = LabellingActor.options(num_gpus=placement.label_gpus).remote(
        config.labels, (config.source, config.target), placement.label_gpus, run.path.name
    )
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "config": to_dict(config),
            "cpus": placement.cpus,
            "actor": actor,
            "monitor": monitor,
            "token": run.claim.token,
        },
        torch_config=NodesConfig(backend="nccl" if placement.worker_gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=placement.worker_gpus > 0, resources_per_worker=placement.workers
        ),
        run_config=RunConfig(name="ray", storage_path=run.shown, failure_config=FailureConfig(max_failures=settings.max_failures)),
    )
    with Watch(monitor, reporter, settings.hang_timeout), contextlib.nullcontext() if cluster_is_given() else advertised(run.path):
        try:
            trainer.fit()
        except SystemExit:  # how Ray's own handler of Ctrl-C ends a run
            raise KeyboardInterrupt from None
        except ray.train.TrainingFailedError as error:
            message = ray.get(monitor.fatal.remote())
            if message is None:
                raise RuntimeError(f"the workers failed: {_last_line(error)}") from error
    message = ray.get(monitor.fatal.remote())
    if message is not None:
        raise Stopped(message) if reporter.stopping() else UserError(message)
    run.fetch()  # the leading worker may have another machine
    return json.loads(run.result.read_text(encoding="utf-8"))


def start_ray(workers: int) -> None:
    """Join the cluster that RAY_ADDRESS or a submitted job provides, else start a local one; keep Ray's chatter away."""
    if ray.is_initialized():
        return
    verbose = os.environ.get("DISTREID_RAY_LOGS") == "1"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {} if verbose else {"log_to_driver": False, "logging_level": logging.ERROR}
    if not verbose:
        logging.getLogger("ray").setLevel(logging.ERROR)
    if cluster_is_given():
        check_address(os.environ.get("RAY_ADDRESS", ""))
        try:
            ray.init(**quiet)
        except ConnectionError:
            raise UserError(f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS', 'auto')}: no Ray answers; {_ADVICE}") from None
    else:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process that waits for this machine to be taken away
        # Ray's workers have a niceness of 15 unless told otherwise, and would starve beside the user's other programs.
        own = {"worker_niceness": 0}
        ray.init("local", num_cpus=max(workers, usable_cores()), include_dashboard=False, _system_config=own, **quiet)


_ADVICE = "start one there (ray start --head), or unset RAY_ADDRESS to train on a Ray of this run's own"


def check_address(address: str) -> None:
    """UserError for a RAY_ADDRESS that Ray would try for minutes, or that names another service of it."""
    scheme, separator, _ = address.partition("://")
    if separator:
        what = {"ray": "Ray Client, which training does not run through", "http": "the dashboard", "https": "the dashboard"}
        raise UserError(
            f"RAY_ADDRESS={address}: this is the address of {what.get(scheme, 'no Ray head')}; give the head's (HOST:6379) on one "
            "of its nodes, submit from elsewhere (ray job submit), or unset RAY_ADDRESS to train on a Ray of this run's own"
        )
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        return  # auto, local: Ray answers at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"RAY_ADDRESS={address}: no Ray head is there ({error.strerror or error}); {_ADVICE}") from None


def _opened(config: Config) -> tuple[DomainData, DomainData]:
    """The run's data on a worker's node. The driver could open them, so what is wrong is wrong with this node."""
    try:
        return open_pair(config)
    except UserError as error:
        raise UserError(
            f"{error}; this is on node {platform.node()}: every node needs the same data at the same path, or a URI"
        ) from None


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _worker(setup: dict[str, Any]) -> None:
    """What each Ray Train worker runs; also after a restart, when it finds the last checkpoint."""
    monitor = setup["monitor"]
    if ray.get(monitor.fatal.remote()) is not None:
        return  # a restart cannot mend the user's mistake
    place = ray.train.get_context()
    rank, world = place.get_world_rank(), place.get_world_size()
    torch.set_num_threads(setup["cpus"])
    config = config_from_dict(setup["config"])
    team = ProcessGroup(rank, world, get_device())
    attempt = ray.train.collective.broadcast_from_rank_zero(uuid.uuid4().hex)
    try:
        source, target = _opened(config)
        remote = (setup["actor"], rank, world, attempt)
        run = RunDirectory(config.output, tensorboard=config.runtime.tensorboard, token=setup["token"])
        reporter = RemoteReporter(monitor, rank, attempt, WorkerMetrics(Path(config.output).name, rank))
        context = Context.begin(config, team, source, target, RemoteLabeler(*remote), RemoteEvaluator(*remote), run, reporter)
        find(config.method).method(context).run()
    except UserError as error:
        ray.get(monitor.fail.remote(str(error)))
        raise

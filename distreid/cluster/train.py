"""One run on Ray: a TorchTrainer for the workers, an actor for the labels, an actor for what the driver shows."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import uuid
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.collective
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from distreid.cluster import cluster_is_given
from distreid.cluster.desk import DeskActor, RemoteDesk
from distreid.cluster.metrics import WorkerMetrics, advertised
from distreid.cluster.monitor import MonitorActor, RemoteReporter, Watch
from distreid.config import Config, RuntimeConfig, config_from_dict, to_dict
from distreid.errors import Stopped, UserError
from distreid.methods.domains import open_network
from distreid.methods.local import METHODS
from distreid.progress import Progress
from distreid.runtime import RunDirectory, Team
from distreid.runtime.machine import usable_cores


def train(config: Config, run: RunDirectory, reporter: Progress) -> dict[str, Any]:
    """Train on Ray; ``config``'s data are packed files that every node can read. Returns what result.json holds.

    Raises:
        UserError: what a worker or the labelling actor found wrong, as one line.
    """
    reporter.stage("starting Ray", 0)
    start_ray(config.runtime.workers)
    reporter.heed_notice()  # ray.init has taken the signal over
    how = config.runtime
    use_gpu, cpus = _plan_resources(how, config.labels.tasks)
    reporter.note(
        f"{how.workers} Ray worker{'s' if how.workers > 1 else ''}, each with {cpus} CPU{'s' if cpus > 1 else ''}"
        f"{' and a GPU' if use_gpu else ''}"
    )
    workers: Any = (how.min_workers, how.workers) if 0 < how.min_workers < how.workers else how.workers  # Ray's types lack the pair
    # Beside the driver, which shares its fate.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    monitor = MonitorActor.options(scheduling_strategy=here).remote()
    desk = DeskActor.options(num_gpus=how.label_gpus).remote(
        config.labels, (config.source, config.target), how.label_gpus, run.path.name
    )
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"config": to_dict(config), "cpus": cpus, "desk": desk, "monitor": monitor},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker=_resources(cpus, use_gpu)),
        run_config=RunConfig(name="ray", storage_path=run.shown, failure_config=FailureConfig(max_failures=how.max_failures)),
    )
    with Watch(monitor, reporter, how.hang_timeout), contextlib.nullcontext() if cluster_is_given() else advertised(run.path):
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


def _plan_resources(how: RuntimeConfig, label_tasks: int) -> tuple[bool, int]:
    """Whether each worker gets a GPU, and its CPUs.

    Args:
        label_tasks: tasks of the neighbour search; above one, each needs ``label_gpus`` beside the actor's own.

    Raises:
        UserError: the nodes cannot hold the workers, for which Ray would wait without end.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    label_gpus = math.ceil(how.label_gpus * (1 if label_tasks == 1 else 1 + label_tasks))
    total_gpus = sum(int(node.get("GPU", 0)) for node in nodes) - label_gpus
    if how.label_gpus > max((node.get("GPU", 0) for node in nodes), default=0):
        raise UserError(f"runtime.label_gpus={how.label_gpus}: no node of this Ray has as many GPUs")
    if total_gpus < 0:
        raise UserError(
            f"labels.tasks={label_tasks} with runtime.label_gpus={how.label_gpus} need {label_gpus} GPUs for labels alone"
        )
    least = how.min_workers or how.workers
    needed = f"runtime.{'min_workers' if how.min_workers else 'workers'}={least}"
    use_gpu = how.gpu == "yes" or (how.gpu == "auto" and total_gpus >= least)
    if use_gpu and total_gpus < least:
        raise UserError(f"{needed} with runtime.gpu=yes needs as many GPUs beside those for labels; {total_gpus} are left")
    cores = [int(node.get("CPU", 0)) for node in nodes]
    cpus = how.cpus_per_worker or max(1, min(sum(cores) // how.workers, max(cores)))
    if not how.cpus_per_worker:
        while cpus > 1 and sum(count // cpus for count in cores) < how.workers:
            cpus -= 1
    if sum(count // cpus for count in cores) < least:
        raise UserError(f"{needed} with {cpus} CPUs each do not fit on this Ray's nodes ({cores} CPUs)")
    return use_gpu, cpus


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
        ray.init(**quiet)
    else:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process that waits for this machine to be taken away
        # Ray's workers have a niceness of 15 unless told otherwise, and would starve beside the user's other programs.
        own = {"worker_niceness": 0}
        ray.init("local", num_cpus=max(workers, usable_cores()), include_dashboard=False, _system_config=own, **quiet)


def _resources(cpus: int, use_gpu: bool) -> dict[str, float]:
    return {"CPU": cpus, "GPU": 1} if use_gpu else {"CPU": cpus}


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _worker(setup: dict[str, Any]) -> None:
    """What each Ray Train worker runs; also after a restart, when it finds the last checkpoint."""
    monitor = setup["monitor"]
    if ray.get(monitor.fatal.remote()) is not None:
        return  # a restart cannot mend the user's mistake
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(setup["cpus"])
    config = config_from_dict(setup["config"])
    team = Team(rank, world, get_device())
    attempt = ray.train.collective.broadcast_from_rank_zero(uuid.uuid4().hex)
    try:
        source, target = open_network(config.source, labelled=True), open_network(config.target, labelled=False)
        method = METHODS[config.method](
            config,
            team,
            source,
            target,
            RemoteDesk(setup["desk"], rank, world, attempt),
            RunDirectory(config.output, tensorboard=config.runtime.tensorboard),
            RemoteReporter(monitor, rank, attempt, WorkerMetrics(Path(config.output).name, rank)),
        )
        method.run()
    except UserError as error:
        ray.get(monitor.fail.remote(str(error)))
        raise

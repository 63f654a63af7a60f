"""The trials of a sweep on Ray Tune: each is a whole run of its own, which may be a Ray Train run in turn.

Tune decides what runs when; what a trial has reached is in its run directory. So nothing is restored from Tune's own (pickled)
state: a sweep that is started again runs the trials without a result, and each of those continues from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from distreid.cluster.placement import SHARE, label_share, label_users
from distreid.cluster.train import start_ray
from distreid.common.errors import UserError
from distreid.common.files import atomic_write
from distreid.config import Config, config_from_dict, to_dict
from distreid.training import RunDirectory
from distreid.training.protocols import Reporter

Train = Callable[..., Any]  # train(config, resume=...)
Rounds = Callable[[RunDirectory], list[dict[str, Any]]]
POLL = 0.5  # seconds between looks at a trial's metrics
METRIC = "quality"


@dataclass
class Space:
    """What Optuna draws from. kinds: {key: {choice|uniform|loguniform: values}}. known: settings and quality of finished trials.
    config: settings -> (name, configuration)."""

    kinds: dict[str, dict[str, list[Any]]]
    samples: int
    seed: int
    known: list[tuple[dict[str, Any], float]]
    config: Callable[[dict[str, Any]], tuple[str, Config]]


def run_trials(
    trials: dict[str, Config],
    output: Path,
    train: Train,
    rounds: Rounds,
    reporter: Reporter,
    *,
    space: Space | None = None,
    concurrency: int = 0,
    asha: bool = False,
    loggers: Sequence[str] = (),
) -> None:
    """Run the configurations, each in its own output, as many at a time as `concurrency` says and the cluster holds.

    Args:
        trials: by name; ignored with `space`, which makes its own.
        output: Tune's own files go to `tune` in it.
        train: runs one configuration to its end.
        rounds: the finished rounds of a run, which are reported to Tune.
        asha: stop trials that fall behind in `quality` after a round.

    A trial that fails leaves its one-line reason in `failures` of the output; the others go on.
    """
    example = next(iter(trials.values())) if space is None else space.config({})[1]
    reporter.stage("starting Ray", 0)
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # read by the trials' processes, which inherit it
    start_ray(max(config.runtime.workers for config in trials.values()) if trials else example.runtime.workers)
    cpus, label_gpus, resources, limit = _share(example, concurrency)
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the sweep as it ends a run
    if os.environ.get("DISTREID_RAY_LOGS") != "1":
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's failure is one line, without its traceback
    shutil.rmtree(output / "tune", ignore_errors=True)
    (output / "failures").mkdir(parents=True, exist_ok=True)
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # The run directories tell what happened; Tune's copies of its state would only cost time.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "60")
    setup = {
        "output": str(output),
        "cpus": cpus,
        "label_gpus": label_gpus,
        "train": train,
        "rounds": rounds,
        "configs": None,
        "make": None,
    }
    if space is None:
        setup["configs"] = {name: to_dict(config) for name, config in trials.items()}
        spaces: dict[str, Any] = {"trial": tune.grid_search(list(trials))}
        algorithm, samples, count = None, 1, len(trials)
    else:
        setup["make"] = space.config
        spaces, algorithm, samples = {}, _optuna(space), max(space.samples - len(space.known), 0)
        count = samples
    if count == 0:
        return
    reporter.stage("trials", count)
    named = space.config if space is not None else lambda values: (values["trial"], trials[values["trial"]])
    progress = _Progress(reporter, output, lambda values: named(values)[0])
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, setup=setup), resources),
        param_space=spaces,
        tune_config=tune.TuneConfig(
            metric=METRIC if asha or space else None,
            mode="max" if asha or space else None,
            scheduler=_asha(example.adapt.rounds + 1) if asha else None,
            search_alg=algorithm,
            num_samples=samples,
            max_concurrent_trials=limit,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(output),
            failure_config=tune.FailureConfig(max_failures=0),  # a failed trial stays so, and the others go on
            verbose=0,
            callbacks=[progress, *_loggers(loggers, output)],
        ),
    )
    # Tune writes to standard output even when told to be silent; the reporter uses standard error.
    with contextlib.nullcontext() if os.environ.get("DISTREID_RAY_LOGS") == "1" else contextlib.redirect_stdout(io.StringIO()):
        try:
            tuner.fit()
        except Exception as error:
            package = type(error).__module__.split(".")[0]
            if package in loggers:
                raise UserError(f"loggers: {package} refuses: {str(error).strip().splitlines()[0]}") from error
            raise


def _asha(rounds: int) -> ASHAScheduler:
    """Of the trials that reach round 1, 4, 16, … a quarter goes on."""
    return ASHAScheduler(time_attr="round", max_t=rounds, grace_period=1, reduction_factor=4, brackets=1)


def _share(config: Config, concurrency: int) -> tuple[int, float, Any, int | None]:
    """(CPUs of each process, GPUs for labels, what Tune reserves for a trial, trials at a time).

    A trial without Ray workers holds its cores itself. One with workers holds none: its Train run reserves them as one group.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores, gpus = sum(int(node.get("CPU", 0)) for node in nodes), sum(int(node.get("GPU", 0)) for node in nodes)
    settings = config.runtime
    processes = max(settings.workers, 1)
    cpus = settings.cpus_per_worker or max(1, cores // (max(concurrency, 1) * processes))
    use_gpu = settings.gpu == "yes" or (settings.gpu == "auto" and gpus >= processes)
    if settings.workers == 0:
        cpus = min(cpus, max(int(node.get("CPU", 0)) for node in nodes))
        fitting = None if settings.cpus_per_worker else 1
        return cpus, 0.0, {"CPU": float(cpus)} | ({"GPU": 1.0} if use_gpu else {}), concurrency or fitting
    fitting = max(1, cores // (cpus * processes)) if settings.cpus_per_worker else 1
    if use_gpu:
        fitting = max(1, min(fitting if settings.cpus_per_worker else max(concurrency, 1), gpus // processes))
    label_gpus = label_share(config, nodes)
    if settings.label_gpus == "auto" and use_gpu:
        label_gpus = min(label_gpus, SHARE)  # a GPU that no worker of this trial needs is for one of the next
    # Tune cannot reserve nothing, so a byte; what labels take stands in the trial's own reservation, where Ray looks.
    own = [{"CPU": 0.0, "memory": 1.0}, *[{"GPU": label_gpus}] * (label_users(config) if label_gpus else 0)]
    return cpus, label_gpus, tune.PlacementGroupFactory(own), min(concurrency or fitting, max(1, cores // (cpus * processes)))


def _trial(values: dict[str, Any], setup: dict[str, Any]) -> None:
    """One trial, in a process of its own: a run in one thread, and reports of its rounds from this one."""
    if setup["configs"] is not None:
        name, config = values["trial"], config_from_dict(setup["configs"][values["trial"]])
    else:
        name, config = setup["make"](values)
        with atomic_write(Path(setup["output"]) / "trials" / f"{name}.json") as stream:
            stream.write(json.dumps(values).encode())
    failure = Path(setup["output"]) / "failures" / f"{name}.txt"
    failure.unlink(missing_ok=True)
    run = RunDirectory(config.output)
    if not run.result.exists():
        config.runtime.cpus_per_worker = config.runtime.cpus_per_worker or setup["cpus"]
        config.runtime.label_gpus = setup["label_gpus"]
    reason: list[str] = []

    def work() -> None:
        torch.set_num_threads(setup["cpus"])
        try:
            setup["train"](config, resume=run.config.exists())
        except BaseException as error:
            reason.append(_one_line(error))

    thread = threading.Thread(target=work, daemon=True)
    if not run.result.exists():
        thread.start()
    reported, running = 0, True
    while running:
        running = thread.is_alive()
        for row in setup["rounds"](run)[reported:]:
            if running and row["round"] >= config.adapt.rounds:
                break  # the scheduler may end the trial at its last report, which must not be before its result is written
            reported += 1
            tune.report({key: value for key, value in row.items() if not isinstance(value, str)})
        if running:
            time.sleep(POLL)
    if reason:
        with atomic_write(failure) as stream:
            stream.write(reason[0].encode())
        raise RuntimeError(reason[0])


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (
        (text[-1] if text else type(error).__name__)
        if isinstance(error, UserError)
        else f"{type(error).__name__}: {text[-1] if text else ''}"
    )


class _Progress(tune.Callback):
    """Counts trials on the terminal, and keeps a reason for those whose process died."""

    def __init__(self, reporter: Reporter, output: Path, name: Callable[[dict[str, Any]], str]) -> None:
        self._reporter, self._output, self._name, self._done = reporter, output, name, 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a copy of its settings, which nobody reads; a terminal cannot be copied

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._count()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = self._name(trial.config)
        file = self._output / "failures" / f"{name}.txt"
        if not file.exists():
            with atomic_write(file) as stream:
                stream.write(b"its process died (out of memory, or killed); Ray's logs say more with DISTREID_RAY_LOGS=1")
        self._reporter.note(f"trial {name} failed: {file.read_text(encoding='utf-8')}")
        self._count()

    def _count(self) -> None:
        self._done += 1
        self._reporter.advance(self._done, {})


def _optuna(space: Space) -> Any:
    """Optuna's TPE, told of the finished trials."""
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError:
        raise UserError("search_algorithm=optuna needs the package optuna: pip install 'distreid[optuna]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds = {
        "choice": tune.choice,
        "uniform": lambda bounds: tune.uniform(*bounds),
        "loguniform": lambda bounds: tune.loguniform(*bounds),
    }
    drawn = {key: kinds[kind](values) for key, settings in space.kinds.items() for kind, values in settings.items()}
    known, qualities = [settings for settings, _ in space.known], [quality for _, quality in space.known]
    return OptunaSearch(
        drawn, metric=METRIC, mode="max", seed=space.seed + len(known),
        points_to_evaluate=known or None, evaluated_rewards=qualities or None,
    )  # fmt: skip


def _loggers(names: Sequence[str], output: Path) -> list[Any]:
    """Ray's own callbacks, by name."""
    made: list[Any] = []
    try:
        for name in names:
            if name == "tensorboard":
                from ray.tune.logger import TBXLoggerCallback

                made.append(TBXLoggerCallback())
            elif name == "mlflow":
                import mlflow  # noqa: F401
                from ray.air.integrations.mlflow import MLflowLoggerCallback

                made.append(MLflowLoggerCallback(experiment_name=output.name))
            elif name == "wandb":
                import wandb  # noqa: F401
                from ray.air.integrations.wandb import WandbLoggerCallback

                made.append(WandbLoggerCallback(project=output.name))
    except ImportError as error:
        raise UserError(f"loggers: {name} needs a package that is not installed ({error.name}): pip install {error.name}") from None
    return made

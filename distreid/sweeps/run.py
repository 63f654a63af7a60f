"""`distreid sweep`: source models once, then the trials; results.parquet, sweep.html and a table."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distreid.actions.demo import draw_pair, synthetic_settings
from distreid.actions.train import train, with_absolute_paths
from distreid.common.errors import UserError
from distreid.common.files import atomic_write
from distreid.common.terminal import TerminalReporter
from distreid.common.text import percent, text_table
from distreid.config import Config, to_dict
from distreid.sweeps.page import write_page
from distreid.sweeps.plan import Plan, Trial, pretraining, read_plan, shared_pretraining
from distreid.sweeps.results import advice, collect, failure_file, rounds_of, stop_file
from distreid.sweeps.rows import Row, cell, write_rows
from distreid.training import RunDirectory

log = logging.getLogger(__name__)


def sweep(file: Path, overrides: Sequence[str] = (), *, resume: bool = False) -> list[Row]:
    """Run a sweep file to its end and log its table. Returns a row for each trial (`results.collect`).

    Raises:
        UserError: the file is wrong, its output is taken, or every trial failed.
    """
    plan = read_plan(file, lambda seed: synthetic_settings(synthetic_folder(seed), seed), overrides)
    begun = (plan.output / "trials").exists()
    if begun and not resume:
        raise UserError(f"{plan.output} already holds a sweep: continue it with --resume, or choose another output")
    if resume and not begun:
        raise UserError(f"{plan.output}: no sweep to resume; check the output, or start it without --resume")
    rows = run_plan(plan)
    keys = list(plan.search)
    log.info("%s\n%s", results_table(rows, keys), "\n".join(advice(rows, keys)))
    log.info("page: %s   rows: %s", plan.output / "sweep.html", plan.output / "results.parquet")
    failed = [row for row in rows if row["status"] == "failed"]
    if failed and len(failed) == len(rows):
        raise UserError(f"every trial failed, the first with: {failed[0]['reason']}")
    return rows


def synthetic_folder(seed: int) -> Path:
    """Where the synthetic pair of a seed lies, for all sweeps and tables; the folder's name is that of 0.1.0."""
    return Path("runs").resolve() / f"drawn-{seed}"


def run_plan(plan: Plan) -> list[Row]:
    """Run what has no result yet; write results.parquet and, where keys are searched, sweep.html. Returns every trial's row."""
    (plan.output / "trials").mkdir(parents=True, exist_ok=True)
    for trial in plan.trials:
        with atomic_write(plan.output / "trials" / f"{trial.name}.json") as stream:
            stream.write(json.dumps(trial.settings).encode())
    if plan.synthetic:
        for seed in sorted({int(trial.settings.get("seed", 0)) for trial in plan.trials} or {0}):
            draw_pair(synthetic_folder(seed), seed)
    reporter = TerminalReporter()
    try:
        if plan.search_algorithm == "optuna":
            _run_optuna(plan, reporter)
        else:
            _run_listed(plan, reporter)
    finally:
        reporter.close()
        rows = collect(plan.output)
        write_rows(plan.output / "results.parquet", rows, {"sweep": plan.output.name, "keys": json.dumps(list(plan.search))})
        if plan.search:
            write_page(plan.output / "sweep.html", rows, plan.search, advice(rows, list(plan.search)))
    return rows


def _run_listed(plan: Plan, reporter: TerminalReporter) -> None:
    waiting = [trial for trial in plan.trials if not RunDirectory(plan.config(trial).output).result.exists()]
    if not waiting:
        return
    from distreid.cluster.sweep import run_trials

    configs = _with_sources(plan, waiting, reporter)
    for trial in waiting:
        stop_file(plan.output, trial.name).unlink(missing_ok=True)
    if configs:
        reporter.note(f"{len(configs)} trials to run, {len(plan.trials) - len(waiting)} finished before")
        run_trials(
            configs, plan.output, train, rounds_of, reporter,
            concurrency=plan.concurrency, asha=plan.scheduler == "asha", loggers=plan.loggers,
        )  # fmt: skip
    for name, config in configs.items():
        if not RunDirectory(config.output).result.exists() and not failure_file(plan.output, name).exists():
            stop_file(plan.output, name).touch()


def _with_sources(plan: Plan, waiting: Sequence[Trial], reporter: TerminalReporter) -> dict[str, Config]:
    """Train the source models that trials share and do not exist yet; the trials' configurations, which start from them."""
    from distreid.cluster.sweep import run_trials

    shared = shared_pretraining(plan, plan.trials)
    configs = {trial.name: with_absolute_paths(plan.config(trial)) for trial in waiting}
    sources = {name: RunDirectory(plan.output / "pretrained" / name) for name in shared.values()}
    missing = {
        shared[name]: pretraining(config, sources[shared[name]].path)
        for name, config in configs.items()
        if name in shared and not sources[shared[name]].result.exists()
    }
    if missing:
        reporter.note(f"{len(missing)} source model{'s' if len(missing) > 1 else ''} for {len(configs)} trials")
        run_trials(missing, plan.output, train, rounds_of, reporter, concurrency=plan.concurrency)
    for trial, source in shared.items():
        if trial not in configs:
            continue
        if sources[source].result.exists():
            configs[trial] = _from_source(configs[trial], sources[source])
        else:
            del configs[trial]
            with atomic_write(failure_file(plan.output, trial)) as stream:
                stream.write(f"pre-training failed: {_reason(plan, source)}".encode())
    return configs


def _from_source(config: Config, source: RunDirectory) -> Config:
    checkpoint = str(source.round_checkpoint(0))
    return dataclasses.replace(config, pretrain=dataclasses.replace(config.pretrain, checkpoint=checkpoint))


def _run_optuna(plan: Plan, reporter: TerminalReporter) -> None:
    """Optuna's own draws; the source model is shared where no key that is drawn changes it."""
    from distreid.cluster.sweep import Space, run_trials

    example = with_absolute_paths(plan.config(Trial({})))
    tree = to_dict(example)
    plan = dataclasses.replace(plan, base=lambda seed: tree)  # read here: a trial's process has another working directory
    pair = [Trial({key: next(iter(settings.values()))[at] for key, settings in plan.search.items()}) for at in (0, -1)]
    names = shared_pretraining(plan, pair)
    source = RunDirectory(plan.output / "pretrained" / next(iter(names.values()))) if len(names) == 2 else None
    if source is not None and not source.result.exists():
        run_trials({source.path.name: pretraining(example, source.path)}, plan.output, train, rounds_of, reporter)
        if not source.result.exists():
            raise UserError(f"pre-training failed: {_reason(plan, source.path.name)}")

    def make(settings: dict[str, Any]) -> tuple[str, Config]:
        trial = plan.found(Trial(settings))
        config = plan.config(trial)
        return trial.name, config if source is None else _from_source(config, source)

    known = [
        ({key: row[key] for key in plan.search}, row["quality"])
        for row in collect(plan.output)
        if row["status"] == "finished" and "quality" in row
    ]
    space = Space(plan.search, plan.samples, plan.seed, known, make)
    run_trials(
        {}, plan.output, train, rounds_of, reporter,
        space=space, concurrency=plan.concurrency, asha=plan.scheduler == "asha", loggers=plan.loggers,
    )  # fmt: skip


def _reason(plan: Plan, name: str) -> str:
    file = failure_file(plan.output, name)
    return file.read_text(encoding="utf-8").strip() if file.exists() else "its process died"


def results_table(rows: Sequence[Row], keys: Sequence[str]) -> str:
    """A line for each trial: its settings, the figures that need no label, and the oracle's."""
    head = [", ".join(keys) or "trial", "rounds", "clusters", "outliers", "quality", "oracle mAP", "oracle Rank-1", "minutes"]
    lines = []
    for row in rows:
        figures = [f"{row[key]:,}" if key in row else "–" for key in ("round", "clusters", "outliers")]
        figures += [percent(row.get(key)) for key in ("quality", "oracle_mAP", "oracle_rank1")]
        minutes = f"{row['seconds'] / 60:.1f}" if "seconds" in row else "–"
        label = ", ".join(cell(row.get(key)) for key in keys) or row["trial"]
        lines.append([label if row["status"] == "finished" else f"{label} ({row['status']})", *figures, minutes])
    table = text_table(head, lines)
    reasons = [f"failed: {row['trial']}: {row['reason']}" for row in rows if row["status"] == "failed"]
    return "\n".join([table, *reasons])

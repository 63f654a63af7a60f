"""From a checked configuration to a finished run: packs folders, makes the run directory, picks Ray or this process."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

from distreid.config import Config, DomainConfig, to_dict, to_yaml
from distreid.data import pack
from distreid.errors import UserError
from distreid.methods.desk import LocalDesk
from distreid.methods.domains import Network, open_network
from distreid.methods.features import extract
from distreid.methods.local import training_device
from distreid.methods.networks import load_network
from distreid.methods.protocols import Reporter
from distreid.report import write_report
from distreid.runtime import Precision, RunDirectory
from distreid.terminal import TerminalReporter, bar, result_table


def train(config: Config, *, resume: bool = False) -> dict[str, Any]:
    """Run a configuration to its end and print its table. Returns what result.json holds."""
    config = with_absolute_paths(config)
    # Opened before the run directory is made, so that a mistake in the data leaves no trace.
    networks = open_network(config.source, labelled=True), open_network(config.target, labelled=False)
    if len(networks[1].train) <= config.labels.k1:
        raise UserError(
            f"{config.target.data}: {len(networks[1].train)} target images are too few for labels.k1={config.labels.k1}"
        )
    run = RunDirectory(config.output)
    run.create(to_yaml(config), resume=resume)
    reporter = TerminalReporter()
    try:
        reporter.note(f"source {_described(networks[0])}\ntarget {_described(networks[1])}\nrun    {run.path}")
        result = _train(config, networks, run, reporter)
    finally:
        reporter.close()
    print(result_table(result))
    print(f"report: {report(run.path)}")
    return result


def report(run: Path) -> Path:
    """Write a run's page, which shows first what differs from the defaults."""
    return write_report(run, defaults=to_dict(Config()))


def _train(config: Config, networks: tuple[Network, Network], run: RunDirectory, reporter: Reporter) -> dict[str, Any]:
    if config.runtime.workers == 0:
        from distreid.methods.local import train as train_locally

        return train_locally(config, *networks, run, reporter)
    try:
        from distreid.cluster.train import train as train_on_ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError("runtime.workers needs Ray, which is not installed; runtime.workers=0 trains in this process") from None
    return train_on_ray(config, *networks, run, reporter)


def with_absolute_paths(config: Config) -> Config:
    """The same configuration with packed data and absolute paths: workers have another working directory, here and elsewhere."""
    config = dataclasses.replace(
        config,
        output=str(Path(config.output).resolve()),
        source=packed(config.source),
        target=packed(config.target),
        model=dataclasses.replace(config.model),
        pretrain=dataclasses.replace(config.pretrain),
    )
    if config.pretrain.checkpoint:
        config.pretrain.checkpoint = str(Path(config.pretrain.checkpoint).resolve())
    if config.model.weights not in ("imagenet", "none"):
        config.model.weights = str(Path(config.model.weights).resolve())
    return config


def _described(network: Network) -> str:
    identities = f" of {network.identities:,} identities" if network.labels is not None else ", unlabelled"
    test = (
        f"{network.test.queries:,} queries, {len(network.test.images) - network.test.queries:,} gallery" if network.test else "none"
    )
    return f"{network.name}: {len(network.train):,} images{identities}; test: {test}"


def evaluate(checkpoint: Path, data: str | None, format: str, *, flip: bool) -> dict[str, Any]:
    """Accuracy of a run (its last finished round) or a checkpoint; ``data`` None takes the run's own target and selection."""
    model, config, _ = load_network(checkpoint)
    network = open_network(
        packed(config.target if data is None else DomainConfig(data=data, format=format)), labelled=False, training=False
    )
    test = network.test
    if test is None:
        raise UserError(f"{data or config.target.data}: has no query and gallery to test on")
    device = training_device(config.runtime.gpu)
    precision = Precision(config.runtime.precision, device, channels_last=config.runtime.channels_last)
    with bar("features") as progress:
        features_nD = extract(
            precision.place(model),  # type: ignore[arg-type]
            test.images,
            slice(0, len(test.images)),
            height=config.input.height,
            width=config.input.width,
            batch=config.evaluate.batch_size,
            precision=precision,
            flip=flip or config.evaluate.flip,
            progress=lambda done: progress(done, len(test.images)),
        )
    return LocalDesk(config.labels, {"test": test}, device).score("evaluate", "test", features_nD)


def packed(domain: DomainConfig) -> DomainConfig:
    """The same domain with its folder, if it names one, packed into the user's cache (once for the same files)."""
    folder = Path(domain.data)
    if not folder.is_dir():
        return dataclasses.replace(domain, data=str(folder.resolve()))
    files = sorted((str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file in folder.rglob("*"))
    name = hashlib.sha256(repr((str(folder.resolve()), domain.format, files)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distreid"
    file = cache / f"{folder.resolve().name}-{name}.arrow"
    if not file.exists():
        with bar(f"packing {folder.name}") as progress:
            pack(folder, file, format=domain.format, progress=progress)
    return dataclasses.replace(domain, data=str(file))

"""From a checked configuration to a finished run: packs folders, makes the run directory, picks Ray or this process."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distreid.config import Config, DomainConfig, to_dict, to_yaml
from distreid.data import ImageStore, pack
from distreid.errors import UserError
from distreid.evaluation import hit_ranks, load_npz, load_protocol, measure, reranked_hits, write_per_query
from distreid.methods.desk import measure_test_set
from distreid.methods.domains import Network, open_network
from distreid.methods.features import extract
from distreid.methods.local import training_device
from distreid.methods.networks import load_network, trained_on
from distreid.methods.pictures import take_pictures
from distreid.methods.protocols import Reporter
from distreid.report import write_comparison, write_report
from distreid.runtime import Precision, RunDirectory
from distreid.terminal import TerminalReporter, bar, result_table


def train(config: Config, *, resume: bool = False) -> dict[str, Any]:
    """Run a configuration to its end and print its table. Returns what result.json holds."""
    config = _with_absolute_paths(config)
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
        reporter.note(f"source {networks[0]}\ntarget {networks[1]}\nrun    {run.path}")
        result = _train(config, networks, run, reporter)
    finally:
        reporter.close()
    print(result_table(result))
    print(f"report: {report([run.path])}")
    return result


def report(runs: list[Path], out: Path | None = None) -> Path:
    """Write a run's page, with pictures where its data can be opened; or of several runs one page that compares them."""
    if len(runs) > 1:
        return write_comparison(runs, out or runs[0].parent / "comparison.html")
    pictures = None
    if RunDirectory(runs[0]).config.exists():  # else write_report says what is wrong
        try:
            with bar("pictures") as progress:
                pictures = take_pictures(runs[0], progress=progress)
        except UserError as error:
            print(f"the report has no pictures: {error}", file=sys.stderr)
    return write_report(runs[0], out=out, defaults=to_dict(Config()), pictures=pictures)


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


def _with_absolute_paths(config: Config) -> Config:
    """Workers have another working directory, on other nodes and on this one."""
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


def evaluate(
    checkpoint: Path, data: str | None, format: str, *, flip: bool = False, rerank: bool = False, per_query: Path | None = None
) -> dict[str, Any]:
    """Accuracy of a run (its last finished round) or a checkpoint by the data set's protocol.

    Args:
        data: None takes the run's own target and selection.
        flip: average the features of each image and its mirror image.
        per_query: also write each query's figures to this Parquet file.
    """
    model, config, file = load_network(checkpoint)
    domain = packed(config.target if data is None else DomainConfig(data=data, format=format))
    domain = dataclasses.replace(domain, split=_split_to_test(domain, file))
    test = open_network(domain, labelled=False, training=False).test
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
    measured = measure_test_set(test, features_nD, partial(reranked_hits if rerank else hit_ranks, device=device))
    if per_query is not None:
        paths = test.images.store.paths[test.images.rows]  # type: ignore[attr-defined]
        write_per_query(per_query, measured.trials, {"path": paths, "pid": test.pids, "camid": test.camids})
    return measured.metrics | {"flip": flip or config.evaluate.flip, "reranked": rerank}


def _split_to_test(domain: DomainConfig, checkpoint: Path) -> int | None:
    """The one random split whose test identities a model that trained on this very set has not seen; None: no such limit."""
    store = ImageStore.open(domain.data)
    if not store.protocol.test_pids:
        return domain.split
    seen = {int(selection.split()[-1]) for content, selection in trained_on(checkpoint) if content == store.content_hash}
    if len(seen) > 1:
        raise UserError(f"{domain.data}: the model was trained on splits {sorted(seen)} of it, which leave nobody to test on")
    if seen and domain.split is not None and domain.split not in seen:
        raise UserError(
            f"{domain.data}: the model was trained on split {min(seen)} of it; it cannot be tested on split {domain.split}"
        )
    return min(seen) if seen else domain.split


def score(
    query: Path,
    gallery: Path,
    *,
    protocol: str | None = None,
    rerank: bool = False,
    per_query: Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """CMC and mAP of anybody's features, by the protocol that the query file carries, or another one."""
    sides = load_npz(query), load_npz(gallery)
    carried, test_pids = load_protocol(query)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    ranker = partial(reranked_hits if rerank else hit_ranks, device=device)
    measured = measure(*sides, protocol or carried, test_pids, ranker=ranker)
    if per_query is not None:
        images = {"pid": np.concatenate([side.pids for side in sides]), "camid": np.concatenate([side.camids for side in sides])}
        write_per_query(per_query, measured.trials, images)
    return measured.metrics | {"reranked": rerank}


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

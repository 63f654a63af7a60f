"""From a checked configuration to a finished run: packs folders, makes the run directory, picks Ray or this process."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from distreid.common.errors import UserError
from distreid.common.progress import Progress
from distreid.common.storage import cache_folder, is_uri
from distreid.common.terminal import TerminalReporter, bar
from distreid.config import Config, DomainConfig, SetConfig, to_dict, to_yaml
from distreid.data import ImageStore, merge, pack, read_dataset, select, selected, whole
from distreid.data.readers.files import TABLE_SUFFIXES, walk_files
from distreid.labels.settings import check_cameras
from distreid.methods.pictures import take_pictures
from distreid.methods.registry import find
from distreid.report import write_comparison, write_report
from distreid.report.text import result_table
from distreid.training import RunDirectory
from distreid.training.domains import DomainData, choices, decoders, open_pair

log = logging.getLogger(__name__)


def train(config: Config, *, resume: bool = False) -> dict[str, Any]:
    """Run a configuration to its end and log its table. Returns what result.json holds."""
    config = with_absolute_paths(config)
    # Opened before the run directory is made, so that a mistake in the data leaves no trace.
    networks = open_pair(config)
    method = find(config.method)
    method.check_data(config, *networks)
    if keys := config.labels.camera_keys:
        try:
            check_cameras(networks[1].camids, len(networks[1].train))
        except UserError as error:
            raise UserError(f"{networks[1].given}: {error} ({', '.join(f'labels.{key}=false' for key in keys)})") from None
    run = RunDirectory(config.output, tensorboard=config.runtime.tensorboard)
    run.create(to_yaml(config), resume=resume)
    with contextlib.closing(run):
        with Progress(run.claim, TerminalReporter()) as reporter:
            reporter.note(f"method {method.title}\nsource {networks[0]}\ntarget {networks[1]}\nrun    {run.shown}")
            result = _train(config, networks, run, reporter)
        log.info(result_table(result))
        page = report([run.path])
        run.publish()
        log.info("report: %s", run.place(page))
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
            log.warning("the report has no pictures: %s", error)
    return write_report(runs[0], out=out, defaults=to_dict(Config()), pictures=pictures)


def _train(config: Config, networks: tuple[DomainData, DomainData], run: RunDirectory, reporter: Progress) -> dict[str, Any]:
    if config.runtime.workers == 0:
        from distreid.methods.local import train as train_locally

        return train_locally(config, *networks, run, reporter)
    try:
        from distreid.cluster.train import train as train_on_ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError("runtime.workers needs Ray, which is not installed; runtime.workers=0 trains in this process") from None
    return train_on_ray(config, run, reporter)


def with_absolute_paths(config: Config) -> Config:
    """The same configuration with packed data and absolute paths: workers have another working directory, here and elsewhere."""
    shared = is_uri(config.output) or Path(config.output).is_absolute()
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") and not shared:
        raise UserError(
            f"output={config.output}: a submitted job runs in a folder that goes with it; give an absolute path on storage that "
            "every node shares, or a URI"
        )
    config = dataclasses.replace(
        config,
        output=_absolute(config.output),
        source=packed(config.source),
        target=packed(config.target),
        model=dataclasses.replace(config.model),
        pretrain=dataclasses.replace(config.pretrain),
    )
    if config.pretrain.checkpoint:
        config.pretrain.checkpoint = _absolute(config.pretrain.checkpoint)
    if config.model.weights not in ("imagenet", "none", "packaged"):
        config.model.weights = _absolute(config.model.weights)
    return config


def _absolute(place: str) -> str:
    return place if is_uri(place) else str(Path(place).resolve())


def packed(domain: DomainConfig) -> DomainConfig:
    """The same domain with its folder or table, if it names one, packed into the user's cache (once for the same files), and so are
    several sets as one."""
    if not domain.given:
        return domain  # a run without a source
    if domain.members():
        return dataclasses.replace(domain, data=_merged(domain.members()), also=None, sets=None)
    place = Path(domain.data)
    if domain.extra:
        domain = dataclasses.replace(domain, extra=_absolute(domain.extra))
    is_table = place.suffix.lower() in TABLE_SUFFIXES
    if is_uri(domain.data) or not (place.is_dir() or is_table):
        return dataclasses.replace(domain, data=_absolute(domain.data))
    read_as = (domain.format, domain.pattern) if domain.pattern else (domain.format,)
    contents = _listed_contents(place, domain.format) if is_table else _contents(place)
    name = hashlib.sha256(repr((str(place.resolve()), *read_as, contents)).encode()).hexdigest()[:16]
    file = cache_folder() / f"{place.resolve().stem if is_table else place.resolve().name}-{name}.arrow"
    if not file.exists():
        with bar(f"packing {place.name}") as progress:
            pack(place, file, format=domain.format, pattern=domain.pattern, progress=progress, given=domain.data)
    return dataclasses.replace(domain, data=str(file))


def open_packed(domain: DomainConfig) -> ImageStore:
    """All of a packed file, or of a folder or table after it was packed; decoded in as many threads as training does."""
    return ImageStore.open(packed(domain).data, threads=decoders())


def _merged(sets: list[SetConfig]) -> str:
    """The file of several sets, or of what is chosen of them."""
    parts, key = [], list[Any]()
    for one in sets:
        store = open_packed(DomainConfig(data=one.data, format=one.format, pattern=one.pattern))
        chosen = {name: value for name, value in choices(one).items() if value is not None and value is not False}
        takes_all = not chosen or (
            store.protocol.test_pids and one.split is None
        )  # of random splits there must be one: whole says so
        parts.append(whole(store) if takes_all else selected(store, select(store, **chosen)))
        key.append((store.name, store.content_hash, *((chosen,) if chosen else ())))
    file = cache_folder() / f"merged-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.arrow"
    if not file.exists():
        merge(parts, file, given=" + ".join(one.data for one in sets))
    return str(file)


def _contents(folder: Path) -> list[tuple[str, tuple[int, ...]]]:
    """What a reader would see, with whatever changes when it does: links are followed as readers do, one that leads nowhere is
    known by its name. The time of change counts too, because copying tools set back that of modification."""
    try:
        return sorted((str(file.relative_to(folder)), _stamp(file)) for file in walk_files(folder))
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror}); check its permissions") from None


def _listed_contents(table: Path, format: str) -> list[tuple[str, tuple[int, ...]]]:
    """The same of a table and the images that it lists."""
    listed = [record.path for record in read_dataset(table, format).records]
    return [(str(file), _stamp(file)) for file in (table, *listed)]


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        stat = file.stat()
    except FileNotFoundError:
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino

"""`distreid plan`: time and memory of a round on machines to come, from what `distreid bench --json` measured on one like them.

A model on paper: every term is a product that a reader can redo with a pencil, and every assumption is printed below the table.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distreid.common.errors import UserError
from distreid.config import Config, ModelConfig, RuntimeConfig
from distreid.data.records import Protocol
from distreid.evaluation.protocols import SHOTS
from distreid.methods.cost import Cost, Stage, cost_of
from distreid.methods.registry import find

NETWORK = 1.25e9  # bytes a second between nodes: 10 Gbit/s
INSIDE = 1.0e10  # bytes a second between the GPUs of a node, and in its memory
PRECISIONS = {"fp32": "fp32", "bf16": "bf16", "fp16": "bf16"}  # what stands for each in a benchmark's figures
ASSUMPTIONS = (
    "each GPU computes as many FLOPs a second as the one measured, whatever the network; FLOPs are counted, of both networks",
    f"links: {NETWORK * 8 / 1e9:.0f} Gbit/s between nodes, {INSIDE / 1e9:.0f} GB/s inside one",
    "gradients travel after each step, not during it",
    "images are decoded as fast as they are trained on; the first step of each stage is not counted",
    "memory: weights, gradients, optimiser, and what the backward pass needs; what the libraries hold comes on top",
)
OF_A_ROUND = (
    "neighbours grow with N x N x D, all else in labelling with N; ranking with queries x gallery x D",
    "every target image is clustered, so an epoch sees twice the target's images",
)


@dataclass(frozen=True)
class Size:
    """What is to be run: training images (the source's, where the method labels no target), the test, and the machines.

    Attributes:
        tested: test images whose features are needed.
        compared: query-gallery pairs that are ranked, over all splits and directions of the test's protocol.
    """

    images: int
    tested: int
    compared: int
    nodes: int
    gpus: int  # a node

    @property
    def workers(self) -> int:
        return self.nodes * self.gpus


@dataclass(frozen=True)
class Figures:
    """What was measured, as `distreid bench train|labels|score --json` prints it; None where it was not."""

    train: dict[str, Any] | None = None
    labels: dict[str, Any] | None = None
    score: dict[str, Any] | None = None


def size_of(config: Config, nodes: int, gpus: int, images: int | None, queries: int | None, gallery: int | None) -> Size:
    """The sizes given, else those of the packed sets.

    Raises:
        UserError: neither is there, or a number is not positive.
    """
    for name, value in (("--images", images), ("--nodes", nodes), ("--gpus", gpus)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    tested, compared = (queries or 0) + (gallery or 0), (queries or 0) * (gallery or 0)
    if images is None:
        trained = config.target if find(config.method).labels_target else config.source
        for domain in dict.fromkeys((trained.data, config.target.data)):
            if not Path(domain).is_file():
                raise UserError(f"{domain}: no such packed file to count; give --images (and --queries, --gallery)")
        from distreid.training.domains import open_domain

        images = len(open_domain(trained, labelled=False).train)
        test = open_domain(config.target, labelled=False).test
        if test is not None and queries is None and gallery is None:
            tested, compared = len(test.images), _compared(test.pids, test.sides, test.protocol)
    return Size(images, tested, compared, nodes, gpus)


def _compared(pids: np.ndarray, sides: tuple[slice, slice], protocol: Protocol) -> int:
    """Query-gallery pairs that a test ranks."""
    if protocol.name == "single_query":
        query, gallery = (side.stop - side.start for side in sides)
        return query * gallery
    queries, galleries = (pids[side] for side in sides)
    total = 0
    for tested in protocol.test_pids:
        asked = int(np.isin(queries, tested).sum())
        if protocol.name == "single_shot":
            total += SHOTS * asked * len(tested)
        else:  # both ways
            total += asked * len(galleries) + int(np.isin(galleries, tested).sum()) * len(queries)
    return total


def read_figures(files: list[Path]) -> Figures:
    """Which bench a file is of is seen from its keys.

    Raises:
        UserError: a file that `distreid bench --json` did not write.
    """
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        try:
            figures = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from None
        except ValueError:
            figures = None
        marks = {"fp32_images_per_second": "train", "seconds_product": "labels", "rank_seconds": "score"}
        kind = next((kind for mark, kind in marks.items() if isinstance(figures, dict) and mark in figures), None)
        if kind is None:
            raise UserError(f"{file}: not figures of a bench; write them with: distreid bench train --json > {file}")
        found[kind] = figures
    return Figures(**found)


def plan(config: Config, size: Size, figures: Figures) -> str:
    """The table and its assumptions.

    Raises:
        UserError: the backbone cannot be built.
    """
    cost = cost_of(config)
    speed = _flops_a_second(config.runtime, figures.train)
    rounds = find(config.method).labels_target
    rows = _round(config, size, figures, cost, speed) if rounds else _stages(config, size, figures, cost, speed)
    known = [took for name, took in rows if took is not None and not name.startswith(" ")]
    atleast = "at least " if any(took is None for _, took in rows) else ""
    lines = [_head(config, size, cost), "", *(f"  {name:<30}{_duration(took):>21}" for name, took in rows), "  " + "─" * 51]
    lines.append(f"  {'a round' if rounds else 'all':<30}{atleast + _duration(sum(known)):>21}")
    if rounds:
        count = max(1, config.adapt.rounds)
        lines.append(f"  {_count(count, 'round'):<30}{atleast + _duration(count * sum(known)):>21}")
    lines += ["", *(f"  {name:<30}{_bytes(size_):>21}" for name, size_ in _memory(config, size, figures, cost))]
    lines += ["", "Assumed:", *(f"  - {text}" for text in ASSUMPTIONS + (OF_A_ROUND if rounds else ()))]
    if figures.train is not None:
        settings = figures.train
        lines.append(
            f"  - measured: {settings['backbone']} at {settings['input']}, batch {settings['batch']}, on {settings['device']}"
        )
    needed = ("train", "labels", "score") if rounds else ("train", "score")
    missing = [name for name in needed if getattr(figures, name) is None]
    if missing:
        lines += ["", "Not measured (–). On a machine like yours run, and give the file with --bench:"]
        lines += [f"  distreid bench {name} --json > {name}.json" for name in missing]
    return "\n".join(lines)


Rows = list[tuple[str, float | None]]


def _head(config: Config, size: Size, cost: Cost) -> str:
    spec = find(config.method)
    what = "target images with {:,} features each" if spec.labels_target else "source images"
    return (
        f"{size.images:,} {what.format(cost.channels)}; {spec.network(config)} at {config.input.height}x{config.input.width}, "
        f"{config.runtime.precision}\n"
        f"{_count(size.workers, 'worker')}: {_count(size.nodes, 'node')} with {_count(size.gpus, 'GPU')} each"
    )


def _round(config: Config, size: Size, figures: Figures, cost: Cost, speed: float | None) -> Rows:
    """Seconds of a round; a name that begins with a space is part of the row above."""
    return [
        ("extract", None if speed is None else size.images * cost.forward / (speed * size.workers)),
        ("move features and labels", _move(config, size, cost)),
        ("label", _label(size, figures.labels, cost)),
        *_train(cost.stages[0], size, cost, speed),
        ("evaluate", _evaluate(config, size, figures, cost, speed)),
    ]


def _stages(config: Config, size: Size, figures: Figures, cost: Cost, speed: float | None) -> Rows:
    """Seconds of the stages of a method that makes no labels."""
    rows = [row for stage in cost.stages for row in _train(stage, size, cost, speed)]
    return [*rows, ("evaluate", _evaluate(config, size, figures, cost, speed))]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def _flops_a_second(settings: RuntimeConfig, train: dict[str, Any] | None) -> float | None:
    """What one GPU computes in the configured precision, from images a second of the network that was measured."""
    if train is None:
        return None
    number = PRECISIONS.get(settings.precision)
    names = ["fp32", "bf16", "bf16_channels_last"] if number is None else [number]  # auto takes the fastest
    if number == "bf16" and settings.channels_last:
        names = ["bf16_channels_last"]
    height, width = map(int, str(train["input"]).split("x"))
    measured = Config(
        method=train.get("method", "daam"),
        model=ModelConfig(backbone=train["backbone"], last_stride=train.get("last_stride", 1)),  # files of 0.1.0 lack both
    )
    measured.input.height, measured.input.width = height, width
    stage = cost_of(measured).stages[0]
    return max(float(train[f"{name}_images_per_second"]) for name in names) * stage.flops / stage.batch


def _feature_bytes(config: Config, size: Size, cost: Cost) -> float:
    return (2.0 if config.runtime.feature_dtype == "float16" else 4.0) * size.images * cost.channels


def _move(config: Config, size: Size, cost: Cost) -> float:
    """All shards to the labelling actor, the answer back to every other node, one after another through its link."""
    link = NETWORK if size.nodes > 1 else INSIDE
    return _feature_bytes(config, size, cost) * max(1, 2 * (size.nodes - 1)) / link


def _label(size: Size, labels: dict[str, Any] | None, cost: Cost) -> float | None:
    if labels is None:
        return None
    growth = size.images / labels["n"]
    square = growth**2 * cost.channels / labels["dim"]
    return sum(took * (square if name == "neighbours" else growth) for name, took in labels["seconds"].items())


def _train(stage: Stage, size: Size, cost: Cost, speed: float | None) -> Rows:
    """A stage's epochs and, of several workers, what of it the gradients take."""
    name, steps = f"{stage.name}, {_count(stage.epochs, 'epoch')}", stage.steps(size.images)
    gradients = steps * _all_reduce(size, cost)
    took = None if speed is None else steps * stage.flops / (speed * size.workers) + gradients
    return [(name, took), *([("  of it, gradients on the way", gradients)] if size.workers > 1 else [])]


def _all_reduce(size: Size, cost: Cost) -> float:
    """Seconds of a ring all-reduce of float32 gradients: 2 (W - 1) / W times their size through the slowest link."""
    link = NETWORK if size.nodes > 1 else INSIDE
    return 2 * (size.workers - 1) / size.workers * 4 * cost.parameters / link


def _evaluate(config: Config, size: Size, figures: Figures, cost: Cost, speed: float | None) -> float | None:
    if not size.tested:
        return 0.0
    if speed is None or figures.score is None:
        return None
    score = figures.score
    ranking = score["rank_seconds"] * size.compared / (score["queries"] * score["gallery"]) * cost.channels / score["dim"]
    passes = 2 if config.evaluate.flip else 1
    return passes * size.tested * cost.forward / (speed * size.workers) + ranking


def _memory(config: Config, size: Size, figures: Figures, cost: Cost) -> Rows:
    settings, rounds = config.runtime, find(config.method).labels_target
    states = 2 if not rounds or config.adapt.optimizer.name == "adamw" else 1
    zero = settings.zero_stage if settings.strategy == "deepspeed" else 0
    whole, gradients, optimizer = (1 / size.workers if zero >= needed else 1.0 for needed in (3, 2, 1))
    copies = 1 if settings.strategy == "deepspeed" else 0  # DeepSpeed trains a copy of the model
    model = 4.0 * cost.parameters * (copies + whole + gradients + states * optimizer)
    bytes_each = 4 if settings.precision == "fp32" else 2
    kept = max(stage.kept * stage.batch for stage in cost.stages) / size.workers / settings.accumulate
    rows: Rows = [("GPU memory of a worker", model + bytes_each * kept)]
    if not rounds:
        return rows
    features, labels = _feature_bytes(config, size, cost), figures.labels
    engine = None
    if labels is not None:
        work = labels["peak_bytes"] - labels["peak_bytes_before"]
        engine = 4.0 * size.images * cost.channels + work * size.images / labels["n"]
    return [
        *rows,
        ("memory of the labelling", engine),
        ("object store, its node", 2 * features),
        ("object store, other nodes", features),
    ]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours / 24:,.1f} days"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _bytes(count: float | None) -> str:
    if count is None:
        return "–"
    return f"{count / 2**30:,.1f} GiB" if count >= 2**29 else f"{count / 2**20:,.0f} MiB"

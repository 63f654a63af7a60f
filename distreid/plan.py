"""`distreid plan`: time and memory of a round on machines to come, from what `distreid bench --json` measured on one like them.

A model on paper: every term is a product that a reader can redo with a pencil, and every assumption is printed below the table.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distreid.config import Config
from distreid.errors import UserError

# torchvision's published multiply-adds (1e9) and parameters (1e6) at 224x224; activations (1e6) of Radosavovic et al., CVPR 2020.
BACKBONES = {
    "resnet18": (1.82, 11.7, 2.5, 512),
    "resnet34": (3.68, 21.8, 3.7, 512),
    "resnet50": (4.12, 25.6, 11.1, 2048),
    "resnet101": (7.85, 44.5, 16.2, 2048),
    "resnet152": (11.58, 60.2, 22.6, 2048),
}
FORWARD = 3.0  # a forward pass is this much faster than a training step (forward, and backward twice as long)
NETWORK = 1.25e9  # bytes a second between nodes: 10 Gbit/s
INSIDE = 1.0e10  # bytes a second between the GPUs of a node, and in its memory
ASSUMPTIONS = (
    "each GPU trains as fast as the one measured, scaled by the backbone's multiply-adds and the input's pixels",
    f"a forward pass takes 1/{FORWARD:.0f} of a training step",
    "neighbours grow with N x N x D, all else in labelling with N; ranking with queries x gallery x D",
    f"links: {NETWORK * 8 / 1e9:.0f} Gbit/s between nodes, {INSIDE / 1e9:.0f} GB/s inside one",
    "gradients travel after each step, not during it",
    "every target image is clustered, so an epoch sees twice the target's images",
    "images are decoded as fast as they are trained on; the first step of each stage is not counted",
    "memory: weights, gradients, optimiser, and two values for each activation; what the libraries hold comes on top",
)


@dataclass(frozen=True)
class Size:
    """What is to be run: target images, test images, and the machines."""

    images: int
    queries: int
    gallery: int
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
    """The sizes given, else those of the packed target.

    Raises:
        UserError: neither is there, or a number is not positive.
    """
    for name, value in (("--images", images), ("--nodes", nodes), ("--gpus", gpus)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    if images is None:
        if not Path(config.target.data).is_file():
            raise UserError(f"{config.target.data}: no such packed file to count; give --images (and --queries, --gallery)")
        from distreid.training.domains import open_domain

        target = open_domain(config.target, labelled=False)
        images = len(target.train)
        if target.test is not None and queries is None and gallery is None:
            queries, gallery = target.test.queries, len(target.test.images) - target.test.queries
    return Size(images, queries or 0, gallery or 0, nodes, gpus)


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
        UserError: the backbone is not a ResNet of the table.
    """
    seconds = {
        "extract": _extract(config, size, figures.train),
        "move": _move(config, size),
        "label": _label(config, size, figures.labels),
        "train": _train(config, size, figures.train),
        "evaluate": _evaluate(config, size, figures),
    }
    dim = _backbone(config)[3]
    what = f"{config.model.backbone} at {config.input.height}x{config.input.width}, {config.runtime.precision}"
    head = (
        f"{size.images:,} target images with {dim:,} features each; {what}\n"
        f"{_count(size.workers, 'worker')}: {_count(size.nodes, 'node')} with {_count(size.gpus, 'GPU')} each"
    )
    rows = [f"  {name:<30}{_duration(took):>21}" for name, took in _named(config, size, seconds)]
    known = [took for took in seconds.values() if took is not None]
    atleast = "" if len(known) == len(seconds) else "at least "
    rounds = max(1, config.adapt.rounds)
    total = sum(known)
    rule = "  " + "─" * 51
    rows += [
        rule,
        f"  {'a round':<30}{atleast + _duration(total):>21}",
        f"  {f'{rounds} rounds':<30}{atleast + _duration(rounds * total):>21}",
        "",
        *(f"  {name:<30}{_bytes(size_):>21}" for name, size_ in _memory(config, size, figures.labels)),
    ]
    missing = [
        f"distreid bench {name} --json > {name}.json" for name in ("train", "labels", "score") if getattr(figures, name) is None
    ]
    lines = [head, "", *rows, "", "Assumed:", *(f"  - {text}" for text in ASSUMPTIONS)]
    if figures.train is not None:
        how = figures.train
        lines.append(f"  - measured: {how['backbone']} at {how['input']}, batch {how['batch']}, on {how['device']}")
    if missing:
        lines += [
            "",
            "Not measured (–). On a machine like yours run, and give the file with --bench:",
            *(f"  {line}" for line in missing),
        ]
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def _named(config: Config, size: Size, seconds: dict[str, float | None]) -> list[tuple[str, float | None]]:
    names = {"move": "move features and labels", "train": f"train, {_count(config.adapt.epochs, 'epoch')}"}
    rows = [(names.get(name, name), took) for name, took in seconds.items()]
    if size.workers > 1:
        rows.insert(4, ("  of it, gradients on the way", _all_reduce(config, size)))
    return rows


def _backbone(config: Config) -> tuple[float, float, float, int]:
    try:
        return BACKBONES[config.model.backbone]
    except KeyError:
        raise UserError(f"model.backbone={config.model.backbone}: plan knows {', '.join(BACKBONES)}") from None


def _rate(config: Config, train: dict[str, Any] | None) -> float | None:
    """Images a second that one GPU trains on, for the configured network, input and precision."""
    if train is None:
        return None
    key = "fp32" if config.runtime.precision == "fp32" else "bf16_channels_last" if config.runtime.channels_last else "bf16"
    height, width = map(int, str(train["input"]).split("x"))
    stride = 1.0 if config.model.last_stride == 2 else 1.6  # the last stage then sees four times the pixels
    ours = _backbone(config)[0] * config.input.height * config.input.width * stride
    theirs = BACKBONES[train["backbone"]][0] * height * width
    return float(train[f"{key}_images_per_second"]) * theirs / ours


def _extract(config: Config, size: Size, train: dict[str, Any] | None) -> float | None:
    rate = _rate(config, train)
    return None if rate is None else size.images / (FORWARD * rate * size.workers)


def _feature_bytes(config: Config, images: int) -> float:
    return (2.0 if config.runtime.feature_dtype == "float16" else 4.0) * images * _backbone(config)[3]


def _move(config: Config, size: Size) -> float:
    """All shards to the labelling actor, the answer back to every other node, one after another through its link."""
    link = NETWORK if size.nodes > 1 else INSIDE
    return _feature_bytes(config, size.images) * max(1, 2 * (size.nodes - 1)) / link


def _label(config: Config, size: Size, labels: dict[str, Any] | None) -> float | None:
    if labels is None:
        return None
    growth = size.images / labels["n"]
    square = growth**2 * _backbone(config)[3] / labels["dim"]
    return sum(took * (square if name == "neighbours" else growth) for name, took in labels["seconds"].items())


def _train(config: Config, size: Size, train: dict[str, Any] | None) -> float | None:
    rate = _rate(config, train)
    if rate is None:
        return None
    return _steps(config, size) * config.adapt.batch_size / (rate * size.workers) + _all_reduce(config, size)


def _steps(config: Config, size: Size) -> int:
    return max(1, 2 * size.images // config.adapt.batch_size) * config.adapt.epochs


def _all_reduce(config: Config, size: Size) -> float:
    """Seconds of a round's ring all-reduces of float32 gradients: 2 (W - 1) / W times their size through the slowest link."""
    link = NETWORK if size.nodes > 1 else INSIDE
    return _steps(config, size) * 2 * (size.workers - 1) / size.workers * 4e6 * _backbone(config)[1] / link


def _evaluate(config: Config, size: Size, figures: Figures) -> float | None:
    rate = _rate(config, figures.train)
    if not size.gallery:
        return 0.0
    if rate is None or figures.score is None:
        return None
    score = figures.score
    ranking = score["rank_seconds"] * size.queries * size.gallery / (score["queries"] * score["gallery"])
    test = size.queries + size.gallery
    passes = 2 if config.evaluate.flip else 1
    return passes * test / (FORWARD * rate * size.workers) + ranking * _backbone(config)[3] / score["dim"]


def _memory(config: Config, size: Size, labels: dict[str, Any] | None) -> list[tuple[str, float | None]]:
    _, weights, activations, _ = _backbone(config)
    how = config.runtime
    states = 2 if config.adapt.optimizer.name == "adamw" else 1
    stage = how.zero_stage if how.strategy == "deepspeed" else 0
    whole, gradients, optimizer = (1 / size.workers if stage >= needed else 1.0 for needed in (3, 2, 1))
    copies = 1 if how.strategy == "deepspeed" else 0  # DeepSpeed trains a copy of the model
    model = 4e6 * weights * (copies + whole + gradients + states * optimizer)
    slice_ = config.adapt.batch_size / size.workers / how.accumulate
    pixels = config.input.height * config.input.width / 224**2
    values = 2e6 * activations * pixels * slice_ * (4 if how.precision == "fp32" else 2)
    features = _feature_bytes(config, size.images)
    engine = None
    if labels is not None:
        work = labels["peak_bytes"] - labels["peak_bytes_before"]
        engine = 4.0 * size.images * _backbone(config)[3] + work * size.images / labels["n"]
    return [
        ("GPU memory of a worker", model + values),
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

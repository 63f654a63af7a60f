"""From a rehearsal to seconds, bytes and GPU-hours: products that a reader can redo with a pencil."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from distreid.actions.plan.devices import Device, computes, device_named, measured_as
from distreid.actions.plan.inputs import Figures, compared, sized
from distreid.actions.plan.memory import feature_bytes, labelling_memory, needed_memory
from distreid.common.errors import UserError
from distreid.common.machine import usable_cores
from distreid.config import Config, config_from_dict
from distreid.methods.local import training_device
from distreid.methods.rehearsal import Labels, Pass, Ranking, Rehearsed, Stretch, rehearse
from distreid.methods.trial import Tried, try_out
from distreid.training.counting import Work
from distreid.training.domains import DomainData
from distreid.training.memory import usual_batch

NETWORK = 10.0  # Gbit/s between nodes
DECODED = 2500.0  # images a second that a worker decodes and resizes to 256 x 128
INSIDE = 1.0e10  # bytes a second inside a node's memory


@dataclass(frozen=True)
class Machines:
    """``nodes`` with ``gpus`` devices each, a worker for each.

    Attributes:
        network: bytes a second between nodes. decoded: images a second that a worker decodes.
    """

    nodes: int = 1
    gpus: int = 1
    network: float = NETWORK * 1.25e8
    decoded: float = DECODED

    @property
    def workers(self) -> int:
        return self.nodes * self.gpus


@dataclass
class Line:
    """A part of a run.

    Attributes:
        seconds: of all its occurrences together; None where something was not measured.
        times: how often it comes. in_round: in each round, not before the first.
        binds: what it waits for most: "arithmetic", "memory", "launches", "input" or "links"; "tried": a real step was timed.
        links: seconds of it in which gradients travel.
    """

    name: str
    in_round: bool
    seconds: float | None = 0.0
    times: int = 0
    binds: str = ""
    links: float = 0.0

    def add(self, seconds: float | None) -> None:
        self.seconds = None if seconds is None or self.seconds is None else self.seconds + seconds
        self.times += 1


@dataclass
class Plan:
    """What :func:`plan` found; bytes and seconds.

    Attributes:
        config: precision and layout decided. channels: D of the features.
        rounds: of labelling and training; 0 where the method has none.
        memory: by what holds it. fits: images of a step, of all workers together, that the devices' memory holds.
        tried: what this machine took for real steps; None of another machine.
        missing: benches that were not measured.
    """

    config: Config
    machines: Machines
    device: Device | None
    domains: tuple[DomainData, DomainData]
    channels: int
    lines: list[Line]
    rounds: int
    memory: dict[str, float | None]
    fits: int | None
    batch: int
    tried: Tried | None
    missing: list[str]

    @property
    def complete(self) -> bool:
        return all(line.seconds is not None for line in self.lines)

    @property
    def seconds(self) -> float:
        """Of the whole run, as far as it is known."""
        return sum(line.seconds or 0.0 for line in self.lines)

    @property
    def round_seconds(self) -> float:
        return sum(line.seconds or 0.0 for line in self.lines if line.in_round) / max(1, self.rounds)


def plan(config: Config, machines: Machines, domains: tuple[DomainData, DomainData], figures: Figures, device: str = "") -> Plan:
    """Rehearse a configuration and price it.

    Args:
        domains: source and target, packed or :func:`distreid.actions.plan.inputs.sized`.
        device: "here" tries steps out on this machine; else a name for :func:`distreid.actions.plan.devices.device_named`;
            without one figures.train says how fast it is.

    Raises:
        UserError: the network cannot be built, or there is no such device.
    """
    config = decided(config, device, figures.train)
    tried = here(config, machines, domains) if device.lower() == "here" else None  # first: rehearsing takes memory of its own
    found = rehearse(config, *domains)
    if not found.stretches:
        raise UserError("this configuration trains nothing: raise its epochs, or adapt.rounds")
    if tried is not None:
        found = tried.given_to(found)
        priced: Device | None = device_tried(config, found.stretches[0])
    else:
        priced = device_of(config, device, figures.train)
    # With adapt.stop=auto there is one labelling more, of no round.
    rounds = min(sum(isinstance(event, Labels) for event in found.events), config.adapt.rounds)
    memory, fits = needed_memory(config, machines.workers, found, priced, None if tried is None else tried.memory)
    if rounds:
        memory |= labelling_memory(config, domains[1], found, figures.labels)
    ranked = any(isinstance(event, Ranking) for event in found.events)
    needed = [*([] if priced else ["train"]), *(["labels"] if rounds else []), *(["score"] if ranked else [])]
    return Plan(
        config, machines, priced, domains, found.channels, price_lines(config, machines, domains, figures, found, priced), rounds,
        memory, fits, max(stretch.batch for stretch in found.stretches), tried,
        [name for name in needed if getattr(figures, name) is None],
    )  # fmt: skip


def decided(config: Config, device: str, train: dict[str, Any] | None) -> Config:
    """With precision, layout and images of a forward pass as a run has them there; the first two as a bench took them, if one
    measured the device."""
    settings, measured = config.runtime, "" if device or train is None else train["device"]
    on = device or ("cpu" if measured == "cpu" else "h100")
    kind = "cpu" if on == "cpu" or (on.lower() == "here" and training_device(settings.gpu).type == "cpu") else "cuda"
    config = replace(config, evaluate=replace(config.evaluate, batch_size=usual_batch(config.evaluate.batch_size, kind)))
    if not device and train is not None and "auto" in train:
        taken = {key: train["auto"][key] for key in ("precision", "channels_last")}
        chosen = {key: value if getattr(settings, key) == "auto" else getattr(settings, key) for key, value in taken.items()}
    else:
        compute = computes(on, settings.precision, settings.channels_last)
        chosen = {"precision": compute.precision, "channels_last": compute.channels_last}
    return replace(config, runtime=replace(settings, **chosen))


def here(config: Config, machines: Machines, domains: tuple[DomainData, DomainData]) -> Tried:
    """Steps on this machine, as one of its workers has it to itself: its GPU, or its share of the cores."""
    device, threads = training_device(config.runtime.gpu), torch.get_num_threads()
    torch.set_num_threads(config.runtime.cpus_per_worker or max(1, usable_cores() // machines.gpus))
    try:
        return try_out(config, *domains, device)
    finally:
        torch.set_num_threads(threads)


def device_tried(config: Config, stretch: Stretch) -> Device:
    """This machine as if it had a usual device's proportions, as fast as the real steps of a stage were."""
    device = training_device(config.runtime.gpu)
    usual, memory = measured_as(device.type), None
    if device.type == "cuda":
        memory = float(torch.cuda.get_device_properties(device).total_memory)
    assert stretch.seconds is not None
    return replace(usual.scaled(usual.seconds(stretch.work) / stretch.seconds, "this machine"), memory=memory)


def device_of(config: Config, device: str, train: dict[str, Any] | None) -> Device | None:
    """The device by its name; where a bench was measured, as fast as that says. None without either."""
    usual = device_named(device) if device else None
    if train is None:
        return usual
    usual = usual or measured_as(train["device"])
    precision = "fp32" if config.runtime.precision == "fp32" else "bf16"
    name = f"{precision}{'_channels_last' if config.runtime.channels_last else ''}_images_per_second"
    expected = usual.seconds(bench_work(train, precision, channels_last=bool(config.runtime.channels_last)))
    return usual.scaled(expected * float(train[name]) / train["batch"], f"{train['device']} as measured")


def bench_work(train: dict[str, Any], precision: str, *, channels_last: bool) -> Work:
    """The step that `distreid bench train` measures."""
    height, width = map(int, train["input"].split("x"))
    batch = train["batch"]
    config = config_from_dict(
        {
            "method": train.get("method", "daam"), "output": "-", "source": {"data": "-"}, "target": {"data": "-"},
            "input": {"height": height, "width": width},
            "model": {"backbone": train["backbone"], "last_stride": train.get("last_stride", 1), "batchnorm_group": batch},
            "pretrain": {"batch_size": batch, "epochs": 1}, "adapt": {"rounds": 0, "batch_size": batch},
            "runtime": {"workers": 0, "precision": precision, "channels_last": channels_last},
        }
    )  # fmt: skip  # files of 0.1.0 lack method and last_stride
    images = sized("", 2 * batch, 751)
    return rehearse(config, images, images).stretches[0].work


def price_lines(
    config: Config,
    machines: Machines,
    domains: tuple[DomainData, DomainData],
    figures: Figures,
    found: Rehearsed,
    device: Device | None,
) -> list[Line]:
    """The parts of a run, in the order in which they first come."""
    rounds, lines = any(isinstance(event, Labels) for event in found.events), dict[str, Line]()

    def line(name: str, *, in_round: bool) -> Line:
        return lines.setdefault(name if in_round or not rounds else f"before: {name}", Line(name, in_round and rounds))

    for event, following in zip(found.events, [*found.events[1:], None], strict=True):
        if isinstance(event, Stretch):
            title = f"{event.title}, {counted(event.epochs, 'epoch')}"
            _train(line(title, in_round=event.round > 0), event, config, machines, device)
        elif isinstance(event, Pass) and isinstance(following, Ranking):
            test = dict(zip(("source", "target"), domains, strict=True))[following.test].test
            assert test is not None
            ranking = _rank(compared(test), found.channels, figures.score)
            took = _extract(event, machines, device)
            line("evaluate", in_round=event.round > 0).add(None if took is None or ranking is None else took + ranking)
        elif isinstance(event, Pass):
            line("extract", in_round=True).add(_extract(event, machines, device))
        elif isinstance(event, Labels):
            images = len(domains[1].train)
            line("move features and labels", in_round=True).add(_move(feature_bytes(config, images, found.channels), machines))
            line("label", in_round=True).add(_label(images, found.channels, figures.labels))
    return list(lines.values())


def _train(line: Line, stretch: Stretch, config: Config, machines: Machines, device: Device | None) -> None:
    steps, gradients = stretch.steps * stretch.epochs, 0.0
    if machines.workers > 1:
        gradients = all_reduce(stretch.trained, machines, device)
    line.links += steps * gradients
    if device is None:
        line.add(None)
        return
    if stretch.seconds is not None:  # with all that a step waits for, but for other workers
        line.add(steps * (stretch.seconds + gradients))
        line.binds = "tried"
        return
    computing, decoding = device.seconds(stretch.work), stretch.rows / machines.decoded
    line.add(steps * max(computing + gradients, decoding))
    bounds = {device.binds(stretch.work): computing, "links": gradients, "input": decoding}
    line.binds = (
        "input" if decoding > computing + gradients else max(bounds, key=lambda name: bounds[name] if name != "input" else 0)
    )


def all_reduce(trained: int, machines: Machines, device: Device | None) -> float:
    """Seconds of a ring all-reduce of float32 gradients: 2 (W - 1) / W times their size through the slowest link."""
    inside = device.link if device is not None else INSIDE
    link = machines.network if machines.nodes > 1 else inside
    return 2 * (machines.workers - 1) / machines.workers * 4 * trained / link


def _extract(event: Pass, machines: Machines, device: Device | None) -> float | None:
    if device is None:
        return None
    mine = event.images / machines.workers
    if event.seconds is not None:
        return mine / event.batch * event.seconds
    return max(mine / event.batch * device.seconds(event.work), mine / machines.decoded)


def _rank(pairs: int, channels: int, score: dict[str, Any] | None) -> float | None:
    if score is None:
        return None
    return score["rank_seconds"] * pairs / (score["queries"] * score["gallery"]) * channels / score["dim"]


def _move(features: float, machines: Machines) -> float:
    """All shards to the labelling actor, the answer back to every other node, one after another through its link."""
    return features * max(1, 2 * (machines.nodes - 1)) / (machines.network if machines.nodes > 1 else INSIDE)


def _label(images: int, channels: int, labels: dict[str, Any] | None) -> float | None:
    if labels is None:
        return None
    growth = images / labels["n"]
    square = growth**2 * channels / labels["dim"]
    return sum(took * (square if name == "neighbours" else growth) for name, took in labels["seconds"].items())


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"

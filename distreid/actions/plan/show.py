"""A plan as text, and as JSON."""

from __future__ import annotations

from typing import Any

from distreid.actions.plan.devices import HELD, USED
from distreid.actions.plan.price import Line, Plan, counted
from distreid.methods.registry import find
from distreid.methods.stand_ins import PER_CLUSTER

RULE = "  " + "─" * 69
MEMORY = {
    "worker": "GPU memory of a worker",
    "labelling": "memory of the labelling",
    "store_main": "object store, its node",
    "store_other": "object store, other nodes",
}


def as_text(plan: Plan) -> str:
    """The table and its assumptions."""
    before, lines = [line for line in plan.lines if not line.in_round], [line for line in plan.lines if line.in_round]
    atleast = "" if plan.complete else "at least "
    text = [_head(plan), ""]
    text += [row for line in before for row in _rows(line, 1, plan.machines.workers)]
    if lines:
        text += [RULE] * bool(before)
        text += [row for line in lines for row in _rows(line, plan.rounds, plan.machines.workers)]
    text.append(RULE)
    if lines:
        text.append(_row("a round", atleast + duration(plan.round_seconds)))
        text.append(_row(counted(plan.rounds, "round"), atleast + duration(plan.rounds * plan.round_seconds)))
    text.append(_row("all", atleast + duration(plan.seconds), f"{atleast}{_hours(plan)} GPU-hours"))
    names = MEMORY | ({} if _on_gpu(plan) else {"worker": "memory of a worker"})
    text += ["", *(_row(names[name], size(count)) for name, count in plan.memory.items())]
    if plan.fits is not None:
        text.append(_row("largest batch that fits", f"{plan.fits:,}", f"of {plan.batch} asked for"))
    text += ["", "Assumed:", *(f"  - {line}" for line in assumptions(plan))]
    if plan.missing:
        text += ["", "Not measured (–). On a machine like yours run, and give the file with --bench:"]
        text += [f"  distreid bench {name} --json > {name}.json" for name in plan.missing]
        if "train" in plan.missing:
            text.append("or name a GPU with --device")
    return "\n".join(text)


def as_json(plan: Plan) -> dict[str, Any]:
    """Seconds and bytes; null where something was not measured."""
    source, target = plan.domains
    runtime, machines, device = plan.config.runtime, plan.machines, plan.device
    return {
        "method": plan.config.method,
        "network": find(plan.config.method).network(plan.config),
        "input": f"{plan.config.input.height}x{plan.config.input.width}",
        "precision": runtime.precision,
        "strategy": runtime.strategy,
        "batch": plan.batch,
        "source_images": len(source.train),
        "target_images": len(target.train),
        "channels": plan.channels,
        "nodes": machines.nodes,
        "gpus": machines.gpus,
        "device": None if device is None else vars(device),
        "parts": [
            {
                "name": line.name, "times": line.times, "in_round": line.in_round, "seconds": line.seconds,
                "seconds_links": line.links, "binds": line.binds or None,
            }
            for line in plan.lines
        ],
        "rounds": plan.rounds,
        "round_seconds": plan.round_seconds,
        "seconds": plan.seconds,
        "gpu_hours": plan.seconds * machines.workers / 3600,
        "complete": plan.complete,
        "memory": plan.memory,
        "largest_batch": plan.fits,
        "not_measured": plan.missing,
        "assumed": assumptions(plan),
    }  # fmt: skip


def assumptions(plan: Plan) -> list[str]:
    """What the figures stand on."""
    machines, device, source = plan.machines, plan.device, plan.domains[0]
    known = [
        "a step of each stage was rehearsed on tensors without data: FLOPs, bytes moved and memory are counted, not guessed",
        *_steps(plan),
        "gradients travel after each step, not during it; the first step of each stage is not counted",
        _memory(plan)
        + (
            f"; the largest batch leaves {HELD / 2**30:.0f} GiB to the libraries and uses {USED:.0%} of the rest"
            if plan.fits
            else ""
        ),
    ]
    if device is not None and plan.tried is None:
        known.insert(
            1,
            f"{device.name}: {device.half / 1e12:,.3g} TFLOP/s in bf16, {device.full / 1e12:,.3g} in fp32, "
            f"{device.bandwidth / 1e9:,.0f} GB/s of memory, {device.launch * 1e6:.0f} microseconds at least a kernel: what "
            "networks reach, not the data sheet's",
        )
    if machines.workers > 1:
        link = f"{machines.network * 8 / 1e9:.0f} Gbit/s between nodes"
        inside = f", {device.link / 1e9:.0f} GB/s inside one" if device is not None else ""
        known.append(f"links: {link}{inside}")
    if plan.rounds:
        known.append("neighbours grow with N x N x D, all else in labelling with N; ranking with queries x gallery x D")
        known.append(f"every target image is clustered, {PER_CLUSTER} a cluster: an epoch sees as many source images beside them")
        if source.name == "source":
            known.append(f"the source is not there: {len(source.train):,} images of {source.identities:,} people (--source-images)")
    return known


def _on_gpu(plan: Plan) -> bool:
    """Of a plan for no device a GPU is thought of."""
    return plan.device is None or not plan.device.cpu


def _steps(plan: Plan) -> list[str]:
    """What the seconds of a step stand on, beside the device."""
    if plan.tried is None:
        return [f"each GPU decodes {plan.machines.decoded:,.0f} images a second (--decode), while the one before is trained on"]
    images = "the images' decoding included" if plan.tried.pictured else "on noise, without decoding"
    return [f"a few steps of each stage and passes were made on this machine, for one worker, and timed; {images}"]


def _memory(plan: Plan) -> str:
    if plan.tried is not None and plan.tried.memory is not None:
        return "memory: what the process really took for these steps, beyond Python and libraries"
    return "memory: the tensors of the worst moment" + ("" if _on_gpu(plan) else "; on CPUs oneDNN takes a quarter to a half more")


def _head(plan: Plan) -> str:
    spec, (source, target), size_ = find(plan.config.method), plan.domains, plan.config.input
    what = f"target images with {plan.channels:,} features each" if spec.labels_target else "source images"
    count = len((target if spec.labels_target else source).train)
    device = f" ({plan.device.name})" if plan.device is not None else ""
    return (
        f"{count:,} {what}; {spec.network(plan.config)} at {size_.height}x{size_.width}, {plan.config.runtime.precision}\n"
        f"{counted(plan.machines.workers, 'worker')}: {counted(plan.machines.nodes, 'node')} with "
        f"{counted(plan.machines.gpus, 'GPU')} each{device}"
    )


BINDS = {
    "arithmetic": "arithmetic binds",
    "memory": "the speed of its memory binds",
    "launches": "starting kernels binds: a larger batch is free",
    "input": "decoding binds",
    "links": "the links bind",
    "tried": "a real step was timed",
}


def _rows(line: Line, parts: int, workers: int) -> list[str]:
    seconds = None if line.seconds is None else line.seconds / parts
    rows = [_row(line.name, duration(seconds), BINDS.get(line.binds, ""))]
    if line.links and workers > 1:
        rows.append(_row("  of it, gradients on the way", duration(line.links / parts)))
    return rows


def _row(name: str, value: str, note: str = "") -> str:
    return f"  {name:<40}{value:>21}  {note}".rstrip()


def _hours(plan: Plan) -> str:
    hours = plan.seconds * plan.machines.workers / 3600
    return f"{hours:,.1f}" if hours < 100 else f"{hours:,.0f}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours / 24:,.1f} days"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def size(count: float | None) -> str:
    if count is None:
        return "–"
    return f"{count / 2**30:,.1f} GiB" if count >= 2**29 else f"{count / 2**20:,.0f} MiB"

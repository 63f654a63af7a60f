"""Bytes: of a worker's device, of the labelling, of Ray's object store."""

from __future__ import annotations

import math
from typing import Any

from distreid.actions.plan.devices import Device
from distreid.config import Config
from distreid.methods.rehearsal import Pass, Rehearsed, Stretch
from distreid.training.domains import DomainData
from distreid.training.zero_config import zero_config


def feature_bytes(config: Config, images: int, channels: int) -> float:
    return (2.0 if config.runtime.feature_dtype == "float16" else 4.0) * images * channels


def worker_memory(config: Config, workers: int, stretch: Stretch) -> tuple[float, float]:
    """Bytes of a worker at the worst moment of a stage's step: what does not grow with the batch, and what does.

    DDP keeps the gradients of all weights in its buckets all the time. DeepSpeed trains a copy of the model, and cuts the
    optimiser's state (stage 1), the gradients (2) and the copy's weights (3) into a part for each worker; from stage 1 on it holds
    a bucket of reduce_bucket_size values beside them.
    """
    memory = stretch.memory
    if config.runtime.strategy != "deepspeed":
        rest = memory.rest if workers > 1 else memory.peak - memory.weights - memory.states
        return memory.weights + memory.states + (memory.gradients if workers > 1 else 0), rest
    stage = config.runtime.zero_stage
    weights, gradients, states = (1 / workers if stage >= needed else 1.0 for needed in (3, 2, 1))
    bucket = 4 * zero_config(stage, accumulate=1, clip=0.0)["zero_optimization"]["reduce_bucket_size"] if stage else 0
    held = memory.weights * (1 + weights) + memory.gradients * gradients + memory.states * states + bucket
    return held, memory.rest


def needed_memory(
    config: Config, workers: int, found: Rehearsed, device: Device | None, tried: int | None = None
) -> tuple[dict[str, float | None], int | None]:
    """Of the stage that needs most; and the images of a step that fit everywhere, as far as memory grows evenly with them.

    ``tried``: what a process really took for a step. What that is above the tensors that a process alone was counted to hold,
    libraries keep for themselves: oneDNN's copies of weights and maps in its own order, an allocator's gaps.
    """
    worst, fits = (0.0, 0.0), math.inf
    for stretch in found.stretches:
        held, rest = worker_memory(config, workers, stretch)
        worst = max(worst, (held, rest), key=sum)
        if device is not None and device.fits is not None:
            rows = max(0.0, device.fits - held) * stretch.rows / rest
            fits = min(fits, int(rows) // stretch.group * stretch.group * workers)
    passes = max((event.memory.peak for event in found.events if isinstance(event, Pass)), default=0)
    alone = max(max(stretch.memory.peak for stretch in found.stretches), passes)
    scratch = max(0, tried - alone) if tried is not None else 0
    return {"worker": max(sum(worst), passes) + scratch}, None if fits == math.inf else int(fits)


def labelling_memory(
    config: Config, target: DomainData, found: Rehearsed, labels: dict[str, Any] | None
) -> dict[str, float | None]:
    images = len(target.train)
    features, engine = feature_bytes(config, images, found.channels), None
    if labels is not None:
        work = labels["peak_bytes"] - labels["peak_bytes_before"]
        engine = 4.0 * images * found.channels + work * images / labels["n"]
    return {"labelling": engine, "store_main": 2 * features, "store_other": features}

"""How a run computes: decided once, by all its processes together, and kept until it ends."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch

from distreid.common.machine import bf16_in_hardware, bf16_speed, choose, common, look
from distreid.config import Config
from distreid.training import Compute, ProcessGroup, RunDirectory
from distreid.training.protocols import Reporter


def settle(config: Config, team: ProcessGroup, run: RunDirectory, reporter: Reporter) -> Config:
    """The configuration with ``runtime.precision`` and ``channels_last`` decided, the same in all processes. All must call it.

    A run that has begun keeps what it decided, on whatever machine it continues. The decision goes to the run's
    environment.json and, as the settings it stands for, into its checkpoints.
    """
    settings, machine, device = config.runtime, look(), team.device
    run.fetch()
    kept = json.loads(team.texts(json.dumps(run.compute()) if team.is_main else "")[0])
    set_ = {key: getattr(settings, key) for key in ("precision", "channels_last")}
    precision, channels_last = (kept.get(key, value) if value == "auto" else value for key, value in set_.items())
    mine = choose(machine, device.type, precision=precision, channels_last=channels_last, threads=torch.get_num_threads())
    emulated = mine.precision == "bf16" and not bf16_in_hardware(machine, device.type)[0]
    slowdown = 1 / bf16_speed(device) if emulated else 0.0
    answers = [json.loads(text) for text in team.texts(json.dumps([mine.to_json(), slowdown]))]
    compute, slowest = common([Compute(**answer) for answer, _ in answers]), max(slowdown for _, slowdown in answers)
    if kept and settings.precision == "auto":
        compute = dataclasses.replace(compute, reason="as this run began")
    if team.is_main:
        reporter.note(str(compute))
        if slowest:
            reporter.note(_emulated(slowest, device.type, begun=bool(kept)))
        run.keep_compute(compute.to_json())
    decided: dict[str, Any] = {"precision": compute.precision, "channels_last": compute.channels_last}
    return dataclasses.replace(config, runtime=dataclasses.replace(settings, **decided))


def _emulated(slowdown: float, device: str, *, begun: bool) -> str:
    advice = (
        "it is kept, for a run goes on as it began; a new output with runtime.precision=auto would take fp32"
        if begun
        else "runtime.precision=auto takes fp32"
    )
    kind = "GPU" if device == "cuda" else "CPU"
    return f"warning: this {kind} emulates bf16, a convolution takes {slowdown:.1f} times as long as in fp32 (measured); {advice}"

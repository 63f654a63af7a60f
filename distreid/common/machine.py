"""What a machine computes in hardware, and which number format and memory layout training takes there.

The facts (:func:`look`) and the decisions (:func:`choose`, :func:`common`, :func:`usable`) are apart: a decision sees nothing
but the facts it is given, so that one machine can be asked what another would do.
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

# Of /proc/cpuinfo's flags (ARM: features), what decides a training's speed; `torch.cpu` has other names for some.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve", "svebf16")
TORCH_NAMES = {"avx512_f": "avx512f", "neon": "asimd", "sve_bf16": "svebf16"}
X86 = ("x86_64", "amd64", "i686")
BF16_HARDWARE = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX"}
WORTH = 1.2  # a measured product must be this much faster in bf16 to be called hardware: below lies noise


@dataclass(frozen=True)
class GPU:
    """capability: NVIDIA's compute capability, such as "9.0". bf16: in hardware, not emulated."""

    name: str
    capability: str
    bf16: bool


@dataclass(frozen=True)
class Machine:
    """The facts that decisions are made of; :meth:`to_json` is their form in a file.

    Attributes:
        cores: that this process may use: its affinity and its container's quota.
        instructions: those of :data:`INSTRUCTIONS` that the CPU has.
        limit: oneDNN's own limit (ONEDNN_MAX_CPU_ISA), "" without one: what the CPU has beyond it is not used.
        onednn: whether torch has oneDNN at all.
        onednn_bf16: oneDNN's word on bf16, None where torch does not pass it on. It says yes where bf16 is only emulated (AVX512
            without BF16), so its no counts and its yes does not.
        bf16_speed: how much faster a small convolution is in bf16 than in float32, measured; None where instruction sets decide.
    """

    architecture: str
    cores: int
    instructions: tuple[str, ...] = ()
    limit: str = ""
    onednn: bool = True
    onednn_bf16: bool | None = None
    bf16_speed: float | None = None
    gpus: tuple[GPU, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Compute:
    """How a run computes, and why: decided once, the same in all its processes.

    Attributes:
        precision: "fp32", "bf16" or "fp16" of the forward pass.
        threads: of the process that has the fewest.
        reason: of the precision, in words.
    """

    precision: str
    channels_last: bool
    threads: int
    reason: str

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"precision {self.precision} ({self.reason}), {layout}, {threads}"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@cache
def look() -> Machine:
    """The facts of this machine; half a second at most where no instruction set tells (ARM and others) and a product is timed."""
    architecture, instructions = platform.machine().lower(), _instructions()
    gpus = tuple(_gpu(number) for number in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    return Machine(
        architecture,
        usable_cores(),
        instructions,
        limit=next((os.environ[name].upper() for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if os.environ.get(name)), ""),
        onednn=torch.backends.mkldnn.is_available(),
        onednn_bf16=_onednn_bf16(),
        bf16_speed=None if architecture in X86 else bf16_speed(torch.device("cpu")),
        gpus=gpus,
    )


def bf16_in_hardware(machine: Machine, device: str) -> tuple[bool, str]:
    """Whether a device ("cpu" or "cuda") of a machine computes bf16 in hardware, and what says so."""
    if device == "cuda":
        old = next((gpu for gpu in machine.gpus if not gpu.bf16), None)
        if old is not None:
            return False, f"{old.name}, compute capability {old.capability}, has no bf16"
        return bool(machine.gpus), machine.gpus[0].name if machine.gpus else "no GPU"
    if not machine.onednn or machine.onednn_bf16 is False:
        limit = f" (ONEDNN_MAX_CPU_ISA={machine.limit})" if machine.limit else ""
        return False, f"oneDNN has no bf16 here{limit}" if machine.onednn else "torch is built without oneDNN"
    if machine.bf16_speed is not None:
        return machine.bf16_speed >= WORTH, f"bf16 measured at {machine.bf16_speed:.1f} times the speed of fp32"
    having = [words for name, words in BF16_HARDWARE.items() if name in machine.instructions and _allows(machine.limit, name)]
    return (True, " and ".join(having)) if having else (False, "this CPU has neither AVX512-BF16 nor AMX")


def choose(
    machine: Machine, device: str, *, precision: str = "auto", channels_last: bool | str = "auto", threads: int = 1
) -> Compute:
    """How one process computes on its device; what is not "auto" stays as it was set.

    auto takes bf16 where the device has it in hardware, else fp32. Never fp16: its range ends at 65504, so losses must be
    scaled and steps that overflow are left out, which changes results, and runtime.strategy=deepspeed does not take it. A GPU
    without bf16 trains in fp32 unless the user says fp16.

    auto takes channels_last where convolutions are made for it: oneDNN on CPUs, tensor cores (bf16 or fp16) on GPUs; cuDNN's
    float32 kernels are made for contiguous images.
    """
    reason = "as set"
    if precision == "auto":
        able, reason = bf16_in_hardware(machine, device)
        precision = "bf16" if able else "fp32"
    if channels_last == "auto":
        channels_last = machine.onednn if device == "cpu" else precision != "fp32"
    return Compute(precision, bool(channels_last), threads, reason)


def common(choices: Sequence[Compute]) -> Compute:
    """What all processes of a run can do: bf16 and channels_last only where each would take them."""
    least = next((choice for choice in choices if choice.precision == "fp32"), choices[0])
    layout, threads = all(choice.channels_last for choice in choices), min(choice.threads for choice in choices)
    able = sum(choice.precision != "fp32" for choice in choices)
    mixed = f"; {able} of {len(choices)} workers have bf16" if 0 < able < len(choices) else ""
    return Compute(least.precision, layout, threads, least.reason + mixed)


def usable(precision: str, machine: Machine, device: str) -> str:
    """In what to *use* a network that was trained in ``precision``: fp32, which loses nothing, where the format is emulated."""
    if precision == "fp16":
        return "fp16" if device == "cuda" else "fp32"
    return precision if precision == "fp32" or bf16_in_hardware(machine, device)[0] else "fp32"


def usable_cores() -> int:
    """CPUs that this process may use: its affinity, and its container's quota, which torch does not look at."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max": no quota
        return cores


def bf16_speed(device: torch.device) -> float:
    """Seconds of a small convolution and its gradients in float32 over those in bf16: 2 is twice as fast, 0.1 ten times slower.

    Below half a second. On a CPU in one thread: what else the machine does weighs less.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _convolve(device, torch.float32) / _convolve(device, torch.bfloat16)
    finally:
        torch.set_num_threads(threads)


def _convolve(device: torch.device, dtype: torch.dtype) -> float:
    """Seconds of the fastest of three passes; the first also makes the kernel, and none follows one that took long."""
    x_BCHW = torch.ones(4, 64, 32, 16, device=device, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.ones(64, 64, 3, 3, device=device, dtype=dtype, requires_grad=True)
    took: list[float] = []
    while len(took) < 3 and sum(took) < 0.1:
        started = time.perf_counter()
        gradients = torch.autograd.grad(functional.conv2d(x_BCHW, weight, padding=1).sum(), (x_BCHW, weight))
        gradients[1].flatten()[0].item()  # waits for a GPU
        took.append(time.perf_counter() - started)
    return min(took)


def _instructions() -> tuple[str, ...]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").lower().splitlines()
        words = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "features"))), [])
    except OSError:  # not Linux: what torch says, where it says anything
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        words = [TORCH_NAMES.get(name, name) for name, has in capabilities.items() if has is True]
    return tuple(name for name in INSTRUCTIONS if name in words)


def _onednn_bf16() -> bool | None:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # another version of torch
        return None


def _allows(limit: str, instruction: str) -> bool:
    """Whether oneDNN's limit leaves an instruction set of :data:`BF16_HARDWARE` in use; names as in oneDNN's manual."""
    if limit in ("", "ALL", "DEFAULT"):
        return True
    return "AMX" in limit if instruction == "amx_bf16" else limit not in ("AVX512_CORE", "AVX512_CORE_VNNI") and "AVX2" not in limit


def _gpu(number: int) -> GPU:
    major, minor = torch.cuda.get_device_capability(number)
    with torch.cuda.device(number):
        return GPU(torch.cuda.get_device_name(number), f"{major}.{minor}", _gpu_bf16(major))


def _gpu_bf16(major: int) -> bool:
    try:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    except TypeError:  # before torch 2.4 there was no emulation to exclude
        return major >= 8

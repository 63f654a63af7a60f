"""`distreid bench input`: decoding, augmentation and the training step, each alone and all together, and which of them binds."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distreid.actions.train import packed
from distreid.common.errors import UserError
from distreid.common.machine import choose, look
from distreid.common.transfer import send
from distreid.config import Config, config_from_dict, load_config
from distreid.data import pack
from distreid.data.loader import Augmentation, Batch, training_batches
from distreid.data.sampling import PlainStream, plan_one
from distreid.data.synthetic import draw_domain
from distreid.data.transforms import augment, draw
from distreid.methods.registry import SPECS, MethodSpec, find
from distreid.training import Precision
from distreid.training.domains import open_domain

BUDGET = 4.0  # seconds that each part is measured for, about
MOST = 64  # batches of it, at most
IDENTITIES = 16  # that are drawn where no data are given


def bench_input(config: str = "") -> dict[str, Any]:
    """Images a second of a configuration's source: `decode`, from the packed file to bytes at the network's size; `augment`, on the
    device; `step`, forward, backward and optimiser; `together`, as a run trains. In the number format that `auto` takes.

    `of_step`: together relative to the step alone. `bottleneck`: what to make faster first. A GPU's decoding runs beside its work;
    on a CPU all three share the cores.

    Raises:
        UserError: the method has no step to time.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _measure(load_config(config) if config else drawn(Path(folder)))


def drawn(folder: Path) -> Config:
    """ResNet-18 at 128x64, as `bench train` has it, on images drawn here."""
    draw_domain(folder / "day", identities=IDENTITIES, cameras=3, images=4, workers=1)
    pack(folder / "day", folder / "day.arrow", format="market1501")
    data, network = {"data": str(folder / "day.arrow")}, {"backbone": "resnet18", "weights": "none"}
    return config_from_dict(
        {"output": "-", "source": data, "target": data, "model": network, "input": {"height": 128, "width": 64}}
    )


def timed_method(config: Config) -> MethodSpec:
    """The configuration's method.

    Raises:
        UserError: it has no step to time.
    """
    spec = find(config.method)
    if spec.bench is None:
        able = ", ".join(name for name, other in SPECS.items() if other.bench is not None)
        raise UserError(f"method={config.method} has no step to time (MethodSpec.bench); give a configuration of method: {able}")
    return spec


def _measure(config: Config) -> dict[str, Any]:
    spec = timed_method(config)
    assert spec.bench is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    compute = choose(look(), device.type, threads=torch.get_num_threads())
    precision = Precision(compute.precision, device, channels_last=compute.channels_last)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, weights="none"))
    source, size, batch = open_domain(packed(config.source), labelled=True, tested=False), config.input, config.pretrain.batch_size
    model = spec.build_model(config, source.identities)
    precision.place(model)
    step = spec.bench(config, model, precision)
    settings = Augmentation(size.height, size.width, size.flip, size.pad, size.erase, model.mean, model.std)
    random = np.random.default_rng(0)

    def decode() -> torch.Tensor:
        return source.train.read(random.integers(len(source.train), size=batch), size.height, size.width)

    def augmented(images: torch.Tensor) -> torch.Tensor:
        draws = draw(random, batch, size.height, size.width, flip=size.flip, pad=size.pad, erase=size.erase)
        return augment(send(images, device), draws, size.pad, model.mean, model.std, precision.layout)

    def together(steps: int) -> float:
        """Images a second of so many steps, as the loop takes them."""
        plan = plan_one(PlainStream(batch * steps, [0]), 0, batch)
        plan = dataclasses.replace(plan, index_SB=plan.index_SB % len(source.train))
        started = time.perf_counter()
        for item in training_batches([source.train], plan, settings, [0], device=device, layout=precision.layout):
            step(item)
        wait_for(device)
        return batch * steps / (time.perf_counter() - started)

    images = decode()
    item = Batch(augmented(images), np.zeros(batch, np.int64), np.arange(batch), 0)
    parts = {"decode": decode, "augment": lambda: augmented(images), "step": lambda: step(item)}
    speed = {name: batch / _seconds(part, device) for name, part in parts.items()}
    whole = together(max(2, min(MOST, int(BUDGET * speed["step"] / batch))))
    return {
        "method": config.method, "backbone": config.model.backbone, "input": f"{size.height}x{size.width}", "batch": batch,
        "data": source.name, "device": str(device), "threads": compute.threads, "precision": compute.precision,
        **{f"{name}_images_per_second": value for name, value in speed.items()},
        "together_images_per_second": whole, "of_step": whole / speed["step"],
        "bottleneck": bottleneck(speed, beside=device.type == "cuda"),
    }  # fmt: skip


def bottleneck(speed: dict[str, float], *, beside: bool) -> str:
    """Which part takes longest. Decoding ``beside`` the device's work binds only where it takes longer than all of that."""
    device = {name: 1 / speed[name] for name in ("augment", "step")}
    decode = 1 / speed["decode"]
    return "decode" if decode > (sum(device.values()) if beside else max(device.values())) else max(device, key=device.__getitem__)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Of a call, after one that warms up; the mean of as many as the budget holds."""
    call()
    wait_for(device)
    started, calls = time.perf_counter(), 0
    while calls < MOST and time.perf_counter() - started < BUDGET:
        call()
        calls += 1
        if calls % 8 == 0:
            wait_for(device)  # else a GPU's queue would take calls faster than they are done
    wait_for(device)
    return (time.perf_counter() - started) / calls


def wait_for(device: torch.device) -> None:
    """Until it has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()

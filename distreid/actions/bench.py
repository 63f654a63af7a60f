"""`distreid bench`: what this machine does, with ratios measured in one run."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from distreid.actions.bench_input import bench_input, wait_for
from distreid.actions.bench_loop import bench_loop
from distreid.common.machine import choose, look
from distreid.config import config_from_dict
from distreid.data.loader import Augmentation, Batch, training_batches
from distreid.data.sampling import PlainStream, plan_one
from distreid.methods.registry import find
from distreid.training import Precision

IDENTITIES = 751  # of the head: Market-1501's


def bench(what: str, *, n: int, dim: int, as_json: bool, labels: dict[str, Any], config: str = "") -> str:
    """Run one benchmark and lay out its figures, a line each, or as JSON.

    labels: more arguments of `bench_labels`. config: of `bench_input` and `bench_loop`.
    """
    if what in ("labels", "input", "loop"):
        figures = _labels(n, dim, labels) if what == "labels" else {"input": bench_input, "loop": bench_loop}[what](config)
    else:
        figures = _BENCHES[what](n, dim)
    if as_json:
        return json.dumps(figures)
    for name, value in list(figures.items()):
        if isinstance(value, dict):
            del figures[name]
            figures |= {f"{name}.{part}": number for part, number in value.items()}
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in figures.items())


def _shown(value: Any) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.3f}" if abs(value) >= 0.1 else f"{value:.3g}"
    return f"{value:,.0f}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _labels(n: int, dim: int, settings: dict[str, Any]) -> dict[str, Any]:
    from distreid.labels.bench import bench_labels

    return bench_labels(n, dim, **settings)


def _score(n: int, dim: int) -> dict[str, Any]:
    from distreid.evaluation.bench import bench_score

    return bench_score(max(1, n // 6), n, dim)


def _round(n: int, dim: int) -> dict[str, Any]:
    from distreid.cluster.bench import bench_round

    return bench_round(n, dim)


class _Noise:
    """Images as a store decodes them, without the decoding: the step is what is measured here."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def read(self, indices: np.ndarray, height: int, width: int) -> torch.Tensor:
        return torch.randint(0, 256, (len(indices), 3, height, width), dtype=torch.uint8)


STEPS = 8  # that are timed, or as many as take about
BUDGET = 20.0  # seconds: emulated bf16 is slow


def bench_train(
    backbone: str = "resnet18", height: int = 128, width: int = 64, batch: int = 32, last_stride: int = 2
) -> dict[str, Any]:
    """Images a second of the usual method's training step in float32 and bf16, contiguous and channels_last; augmentation's share.

    auto: what `runtime.precision` and `channels_last` take here, why, and its speed relative to the fastest of the four.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    compute = choose(look(), device.type, threads=torch.get_num_threads())
    network = {"backbone": backbone, "weights": "none", "last_stride": last_stride, "batchnorm_group": batch}
    config = config_from_dict({"output": "-", "source": {"data": "-"}, "target": {"data": "-"}, "model": network})
    spec = find(config.method)
    assert spec.bench is not None
    figures: dict[str, Any] = {
        "method": config.method, "backbone": backbone, "last_stride": last_stride, "input": f"{height}x{width}", "batch": batch,
        "device": str(device), "threads": compute.threads,
    }  # fmt: skip
    speed = {}
    for number, last in itertools.product(("fp32", "bf16"), (False, True)):
        precision = Precision(number, device, channels_last=last)
        model = spec.build_model(config, IDENTITIES)
        precision.place(model)
        step = spec.bench(config, model, precision)
        speed[number, last] = _images_per_second(step, height, width, batch, device)
        figures[f"{number}{'_channels_last' if last else ''}_images_per_second"] = speed[number, last]
    taken = speed[compute.precision, compute.channels_last]
    figures["speedup"] = speed["bf16", True] / speed["fp32", False]
    figures["auto"] = {**compute.to_json(), "of_fastest": taken / max(speed.values())}
    figures["augmentation_share"] = taken / _images_per_second(lambda item: None, height, width, batch, device)
    return figures


def _images_per_second(step: Callable[[Batch], None], height: int, width: int, batch: int, device: torch.device) -> float:
    """Of the steps after two that warm up."""
    settings = Augmentation(height, width, flip=0.5, pad=10, erase=0.5, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def seconds(steps: int) -> float:
        plan = plan_one(PlainStream(batch * steps, [0]), 0, batch)
        started = time.perf_counter()
        for item in training_batches([_Noise(batch * steps)], plan, settings, [0], device=device):
            step(item)
        wait_for(device)
        return time.perf_counter() - started

    seconds(1)
    steps = max(1, min(STEPS, int(BUDGET / seconds(1))))
    return batch * steps / seconds(steps)


_BENCHES: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "score": _score,
    "round": _round,
    "train": lambda n, dim: bench_train(),
}

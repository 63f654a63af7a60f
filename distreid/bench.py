"""`distreid bench`: what this machine does, with ratios measured in one run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from distreid.config import config_from_dict
from distreid.data.loader import Augmentation, Batch, training_batches
from distreid.data.sampling import PlainStream, plan_one
from distreid.methods.registry import find
from distreid.training import Precision

IDENTITIES = 751  # of the head: Market-1501's


def bench(what: str, *, n: int, dim: int, as_json: bool, labels: dict[str, Any]) -> str:
    """Run one benchmark and lay out its figures, a line each, or as JSON. labels: more arguments of `bench_labels`."""
    figures = _labels(n, dim, labels) if what == "labels" else _BENCHES[what](n, dim)
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


def _labels(n: int, dim: int, how: dict[str, Any]) -> dict[str, Any]:
    from distreid.labels.bench import bench_labels

    return bench_labels(n, dim, **how)


def _score(n: int, dim: int) -> dict[str, Any]:
    from distreid.evaluation.bench import bench_score

    return bench_score(max(1, n // 6), n, dim)


def _round(n: int, dim: int) -> dict[str, Any]:
    from distreid.cluster.bench import bench_round

    return bench_round(n, dim)


class _Noise:
    """Images as a store decodes them, without the decoding: the step is what is measured here."""

    def read(self, indices: np.ndarray, height: int, width: int) -> torch.Tensor:
        return torch.randint(0, 256, (len(indices), 3, height, width), dtype=torch.uint8)


def bench_train(backbone: str = "resnet18", height: int = 128, width: int = 64, batch: int = 32, steps: int = 8) -> dict[str, Any]:
    """Images a second of the usual method's training step in float32, bf16, bf16 with channels_last; augmentation's share of it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures: dict[str, Any] = {"backbone": backbone, "input": f"{height}x{width}", "batch": batch, "device": str(device)}
    how = Augmentation(height, width, flip=0.5, pad=10, erase=0.5)
    plan = plan_one(PlainStream(batch * steps, [0]), 0, batch)
    network = {"backbone": backbone, "weights": "none", "last_stride": 1, "batchnorm_group": batch}
    config = config_from_dict({"output": "-", "source": {"data": "-"}, "target": {"data": "-"}, "model": network})
    spec = find(config.method)
    assert spec.bench is not None
    settings = {"fp32": ("fp32", False), "bf16": ("bf16", False), "bf16_channels_last": ("bf16", True)}
    for name, (number, last) in settings.items():
        precision = Precision(number, device, channels_last=last)
        model = spec.build_model(config, IDENTITIES)
        precision.place(model)
        step = spec.bench(config, model, precision)
        figures[f"{name}_images_per_second"] = batch * steps / _seconds(partial(_each, plan, how, device, step), device)
    figures["speedup"] = figures["bf16_channels_last_images_per_second"] / figures["fp32_images_per_second"]
    alone = _seconds(lambda: _each(plan, how, device, lambda item: None), device)
    figures["augmentation_share"] = alone / (batch * steps / figures["bf16_channels_last_images_per_second"])
    return figures


def _each(plan: Any, how: Augmentation, device: torch.device, step: Callable[[Batch], None]) -> None:
    for item in training_batches([_Noise()], plan, how, [0], device=device):
        step(item)


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    """Seconds of the second of two runs."""
    took = 0.0
    for _ in range(2):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - started
    return took


_BENCHES: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "score": _score,
    "round": _round,
    "train": lambda n, dim: bench_train(),
}

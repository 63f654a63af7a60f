"""`distreid bench loop`: the training loop, images and all, beside a bare loop of PyTorch on the same network and batches."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from distreid.actions.bench_input import drawn, timed_method, wait_for
from distreid.actions.train import packed
from distreid.common.machine import choose, look
from distreid.config import Config, load_config
from distreid.data.loader import Batch, View
from distreid.methods.local import training_device
from distreid.methods.rehearsal import NOTHING, Pass, Performer, Stretch, perform
from distreid.models import build_backbone
from distreid.models.norm import group_batchnorm
from distreid.training import Precision
from distreid.training.counting import Work
from distreid.training.domains import DomainData, open_domain
from distreid.training.loop import Trainer
from distreid.training.stage import Stage

STEPS, TURNS = 8, 9  # of an epoch; epochs of each that are timed, in turns, after one that warms up


def bench_loop(config: str = "") -> dict[str, Any]:
    """Images a second of pre-training as a run does it (decoding, augmentation, losses, meters, checks), and of the bare loop: the
    same backbone, pooling and classifier, number format, memory layout and batches, which it has in memory.

    Medians of turns in one process. On a CPU one thread computes and CPU seconds count, so that neither the number of cores nor
    what else they do decides.

    `of_bare`: the loop's speed over the bare one's, the median of each turn's.

    Raises:
        UserError: the method has no step to time (`bench_input`).
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = load_config(config) if config else drawn(Path(folder))
        timed_method(settings)
        return _measure(_plain(settings))


def _plain(config: Config) -> Config:
    """Pre-training of backbone and classifier alone, in the number format and layout that a run takes."""
    device = training_device(config.runtime.gpu)
    compute = choose(look(), device.type, precision=config.runtime.precision, channels_last=config.runtime.channels_last)
    batch = config.pretrain.batch_size
    decided: dict[str, Any] = {"precision": compute.precision, "channels_last": compute.channels_last}
    return replace(
        config,
        model=replace(
            config.model, weights="none", attention="none", domain_branch=False, pooling="mean", neck=False, batchnorm_group=batch
        ),
        pretrain=replace(config.pretrain, checkpoint="", epochs=1),
        adapt=replace(config.adapt, rounds=0),
        evaluate=replace(config.evaluate, source=False, target=False),
        runtime=replace(config.runtime, workers=0, strategy="ddp", accumulate=1, **decided),
    )


def _measure(config: Config) -> dict[str, Any]:
    device, batch = training_device(config.runtime.gpu), config.pretrain.batch_size
    source = _some(open_domain(packed(config.source), labelled=True, tested=False), STEPS * batch)
    turns, threads = _Turns(device), torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else threads)
    try:
        perform(config, source, source, turns, device)
    finally:
        torch.set_num_threads(threads)
    loop_speed, bare_speed = (turns.images / statistics.median(part) for part in zip(*turns.took, strict=True))
    size, runtime = config.input, config.runtime
    return {
        "method": config.method, "backbone": config.model.backbone, "input": f"{size.height}x{size.width}", "batch": batch,
        "device": str(device), "precision": runtime.precision, "channels_last": runtime.channels_last,
        "loop_images_per_second": loop_speed, "bare_images_per_second": bare_speed,
        "of_bare": statistics.median(bare / loop for loop, bare in turns.took),
    }  # fmt: skip


def _some(domain: DomainData, images: int) -> DomainData:
    """So many of a domain's images, some of them several times where it has fewer."""
    assert domain.labels is not None
    chosen = np.arange(images) % len(domain.train)
    return replace(domain, train=View(domain.train, chosen), labels=domain.labels[chosen])


class _Turns(Performer):
    """Trains the first stage for real, epoch by epoch, and the bare loop as many steps after each.

    Attributes:
        took: seconds of the loop's epoch and of the bare loop's steps, of each turn; images: of each.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self.took: list[tuple[float, float]] = []
        self.images = 0

    def train(self, trainer: Trainer[Any, Any], stage: Stage, title: str) -> Stretch:
        plan = stage.plan(0)
        bare, self.images = _bare_step(trainer, list(trainer.batches(stage, plan, [0]))), plan.index_SB.size

        # A look at all weights at the end of an epoch of hundreds of steps: of eight it would be a percent.
        trainer.bring_together = lambda *_: None  # type: ignore[method-assign]

        def epoch() -> None:
            trainer.state.step = 0
            trainer.train_epoch(stage, 0, begins=False)

        def steps() -> None:
            for _ in range(len(plan)):
                bare()

        turns = [(self._seconds(epoch), self._seconds(steps)) for _ in range(1 + TURNS)]
        self.took = turns[1:]
        trainer.state.epoch = 0
        size = plan.index_SB.shape[1]
        return Stretch(title, 0, 0, len(plan), size, size, stage.group, Work(), NOTHING, 0)

    def features(self, trainer: Trainer[Any, Any], images: View, batch: int, *, flip: bool) -> Pass:
        return Pass("", 0, 0, batch, Work(), NOTHING)

    def _seconds(self, call: Callable[[], None]) -> float:
        clock = time.process_time if self._device.type == "cpu" else time.perf_counter
        started = clock()
        call()
        wait_for(self._device)
        return clock() - started


def _bare_step(trainer: Trainer[Any, Any], batches: list[Batch]) -> Callable[[], None]:
    """Forward, backward and optimiser on the next of the batches, as a tutorial writes them.

    The batches are those of an epoch: a network that sees one alone, or one label, is soon right, and steps whose gradients vanish
    are quicker than a run's (2 % with a ResNet-18 on a CPU).
    """
    config, source = trainer.config, trainer.context.source
    settings, size, rates = config.model, (config.input.height, config.input.width), config.pretrain.optimizer
    precision: Precision = trainer.context.precision
    backbone = build_backbone(settings.backbone, "none", settings.last_stride, size)
    device = batches[0].images_BCHW.device
    head = nn.Linear(backbone.channels, trainer.context.source.identities)
    network = precision.place(nn.ModuleList([group_batchnorm(backbone, config.pretrain.batch_size), head])).train()
    parameters = list(network.parameters())
    optimizer = (
        torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=rates.weight_decay, fused=True)
        if rates.name == "sgd"
        else torch.optim.AdamW(parameters, lr=1e-3, weight_decay=rates.weight_decay, fused=True)
    )
    assert source.labels is not None
    labels_N = torch.from_numpy(source.labels)
    data = itertools.cycle([(precision.layout(batch.images_BCHW), labels_N[batch.index_B].to(device)) for batch in batches])

    def step() -> None:
        x_BCHW, labels_B = next(data)
        with precision.autocast():
            logits_BN = head(backbone(x_BCHW).float().mean((2, 3)))
        F.cross_entropy(logits_BN.float(), labels_B).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step

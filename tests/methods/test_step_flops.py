"""A training step computes what it must: the network, forward and backward, of exactly the batch's images, and little beside.

What is needed is counted by torch's own counter on the bare network; what a step does, by a rehearsal of the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from distreid.actions.plan.inputs import sized
from distreid.config import config_from_dict
from distreid.methods.rehearsal import Stretch, rehearse
from distreid.models import build_backbone
from distreid.models.edaan_parts import Encoder, ReIDHead
from distreid.training.counting import convolution_backward_flops

MOST = 1.05  # of what is needed
HEIGHT, WIDTH, BATCH, IDENTITIES = 384, 128, 32, 751


def stretches(method: str, *overrides: str) -> list[Stretch]:
    """Of a run on sets as large as Market-1501, ResNet-50 at 384x128 in batches of 32 where the method has one."""
    tree = {
        "method": method, "output": "-", "source": {"data": "s"}, "target": {"data": "t"},
        "input": {"height": HEIGHT, "width": WIDTH}, "runtime": {"precision": "fp32", "channels_last": True, "workers": 0},
    }  # fmt: skip
    return rehearse(config_from_dict(tree, list(overrides)), sized("s", 12936, IDENTITIES), sized("t", 16522)).stretches


def needed(build: Callable[[], nn.Module], *shape: int, gradient: bool = False) -> int:
    """FLOPs of a network, forward and backward; ``gradient``: also of what it is given."""
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: convolution_backward_flops})
    with FakeTensorMode():
        network, x_BCHW = build(), torch.empty(*shape, requires_grad=gradient)
        with counter:
            total(network(x_BCHW)).backward()
    return counter.get_total_flops()


def total(out: Any) -> Tensor:
    return sum((total(part) for part in out), torch.zeros(())) if isinstance(out, Sequence) else out.sum()


def encoder() -> nn.Module:
    return Encoder(64, 4)


def resnet50() -> nn.Module:
    return build_backbone("resnet50", "none", 1, (HEIGHT, WIDTH))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["daam", "contrast"])
def test_methods_on_a_backbone(method: str) -> None:
    """Attention, heads, losses, memory and optimiser beside the backbone."""
    sizes = [f"{group}.batch_size={BATCH}" for group in ("pretrain", "adapt")]
    found = stretches(method, "model.backbone=resnet50", "model.last_stride=1", "adapt.rounds=1", *sizes)
    least = needed(resnet50, BATCH, 3, HEIGHT, WIDTH)
    assert [stretch.rows for stretch in found] == [BATCH, BATCH]
    ratios = {stretch.title: stretch.work.flops / least for stretch in found}
    assert all(1 <= ratio <= MOST for ratio in ratios.values()), ratios


class Head(nn.Module):
    """EDAAN's re-ID head on features that have their gradients, dropout keeping all."""

    def __init__(self) -> None:
        super().__init__()
        self.head = ReIDHead(256, IDENTITIES, stages=2, dropout=0.5, pooling="mean")

    def forward(self, f_Bchw: Tensor) -> Tensor:
        logits_BN, embeddings_BD = self.head(f_Bchw, torch.ones(len(f_Bchw), self.head.HIDDEN, dtype=torch.bool))
        return logits_BN.sum() + embeddings_BD.sum()


@pytest.mark.slow
def test_re_id_of_edaan() -> None:
    """Alone: encoder and head on the batch. End to end: beside translation the head on real and translated images, and the encoder
    on the translated ones; the real ones' features are the translator's own."""
    small = ["input.height=256", "input.pad=0", "input.erase=0", "edaan.batch_size=16", "edaan.foreground_view=false"]
    one = ["edaan.epochs=1", "edaan.decay_epochs=0", "edaan.reid_epochs=1", "edaan.reid_decay_epochs=0"]
    (alone,) = stretches("edaan", "edaan.variant=direct", *small, *one)
    (joint,) = stretches("edaan", "edaan.variant=edaan", *small, *one)
    translation, _ = stretches("edaan", "edaan.variant=daan", *small, *one)
    images, features = (16, 3, 256, WIDTH), (16, 256, 64, WIDTH // 4)
    ratios = {
        "re-ID": alone.work.flops / (needed(encoder, *images) + needed(Head, *features, gradient=True)),
        "end to end": (joint.work.flops - translation.work.flops)
        / (needed(encoder, *images, gradient=True) + 2 * needed(Head, *features, gradient=True)),
    }
    assert all(1 <= ratio <= MOST for ratio in ratios.values()), ratios

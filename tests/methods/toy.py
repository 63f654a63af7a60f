"""A third method, for tests: a small network with dropout and drop path, trained on the source alone. All of it is in this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from distreid.common.errors import UserError
from distreid.config import Config
from distreid.data.loader import Batch
from distreid.data.sampling import BatchPlan, PlainStream, plan_one
from distreid.losses import hard_label_loss
from distreid.methods.registry import MethodSpec
from distreid.models import ReIDNetwork, group_batchnorm
from distreid.training.checkpoints import State
from distreid.training.context import Context
from distreid.training.engine import Engine
from distreid.training.loop import Trainer
from distreid.training.stage import LossTerms, SingleEngineStage


@dataclass
class ToyConfig:
    epochs: int = 2
    dropout: float = 0.5
    lr: float = 0.05


def check(config: Config) -> None:
    if config.group(ToyConfig).epochs < 1:
        raise UserError("toy.epochs must be greater than 0")


class ToyNetwork(ReIDNetwork):
    def __init__(self, identities: int, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.branch, self.depth = nn.Conv2d(8, 8, 3, padding=1), StochasticDepth(0.3, "row")
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(8, identities)
        self.mean, self.std = self.unsaid

    @property
    def feature_channels(self) -> int:
        return 8

    def features(self, x_BCHW: Tensor) -> Tensor:
        f_BCHW = self.stem(x_BCHW)
        return (f_BCHW + self.depth(self.branch(f_BCHW))).mean((2, 3))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(x_BCHW)))


def build_model(config: Config, identities: int, *, weights: bool = True) -> ToyNetwork:
    model = ToyNetwork(identities, config.group(ToyConfig).dropout)
    group_batchnorm(model, 4)
    return model


class ToyStage(SingleEngineStage):
    def __init__(self, context: Context, model: ToyNetwork) -> None:
        how = context.config.group(ToyConfig)
        groups = [{"params": list(model.parameters()), "lr": how.lr}]
        engine = Engine(
            model, groups, lambda _: 1.0, context.processes, context.precision, accumulate=context.config.runtime.accumulate
        )
        super().__init__(engine, "toy", how.epochs, 4, context.config.runtime.accumulate)
        assert context.source.labels is not None
        self.labels, self.stream = context.source.labels, PlainStream(len(context.source.train), [context.config.seed, 1, 0])

    def plan(self, epoch: int) -> BatchPlan:
        return plan_one(self.stream, epoch, 16)

    def loss(self, batch: Batch, epoch: int) -> LossTerms:
        return {"identity": hard_label_loss(self.engine.forward(batch.images_BCHW), torch.tensor(self.labels[batch.index_B]))}

    def diverged(self, what: str, epoch: int) -> str:
        return f"toy, epoch {epoch + 1}: {what} is not finite; lower toy.lr"


class Toy:
    def __init__(self, context: Context) -> None:
        self.context, self.trainer = context, Trainer(context, build_model, State(round=1))

    def run(self) -> dict[str, Any]:
        checkpoints, state = self.trainer.checkpoints, self.trainer.state
        checkpoints.resume(1)
        if state.round == 1:
            stage = ToyStage(self.context, self.trainer.model)
            saved = checkpoints.take_optimizer()
            if saved is not None:
                stage.engine.load_optimizer_state(saved)
            self.trainer.fit(stage)
            if self.context.target.test is not None:
                state.result["rounds"] = [{"round": 1, **self.trainer.score("target", self.context.target.test)()}]
            checkpoints.save_round()
            state.round, state.epoch = 2, 0
            checkpoints.save()
        return checkpoints.finish()


SPEC = MethodSpec(
    name="toy",
    title="Toy",
    method=Toy,
    build_model=build_model,
    check=check,
    matching=lambda model, name: not name.startswith("head."),
    describe=lambda model, config: ("the pooled vector of a toy", vars(config.group(ToyConfig))),
    group=ToyConfig,
)

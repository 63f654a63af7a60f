"""A source model, then rounds of labelling the target and training with the labels: Algorithm 1 of DAAM (Huang et al., AAAI 2020)
as every method of this form runs it, on one process or many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic

from torch import Tensor

from distreid.common.layout import pretrained_files
from distreid.common.mirror import on_this_machine
from distreid.labels import PseudoLabels
from distreid.methods.labelling import Labelling, RoundState
from distreid.models import EncoderNetwork, begin_target, load_weights
from distreid.training.context import Context
from distreid.training.files import load_checkpoint
from distreid.training.loop import Model, Trainer, accuracy_text
from distreid.training.meters import timed
from distreid.training.protocols import RoundLabels, ScoreFuture
from distreid.training.rundir import RunDirectory
from distreid.training.stage import SingleEngineStage


class Rounds(ABC, Generic[Model]):
    """One process's part of a run; its schedule is `adapt`, its labels are `labels`.

    Args:
        build_model: the network, as :class:`~distreid.training.loop.Trainer` takes it.
    """

    def __init__(self, context: Context, build_model: Callable[..., Model]) -> None:
        self.context, self.config = context, context.config
        self.trainer = Trainer(context, build_model, RoundState())
        self.model, self.state, self.checkpoints = self.trainer.model, self.trainer.state, self.trainer.checkpoints
        self.labelling = Labelling(self.trainer)

    def run(self) -> dict[str, Any]:
        """Algorithm 1. Returns what result.json holds."""
        rounds = self.config.adapt.rounds
        self.checkpoints.resume(rounds)
        if self.state.round == 0:
            self.pretrain()  # line 1
            self.measure_direct_transfer()
        while self.state.round <= rounds and not self.state.ended:  # line 2
            self.take_target_statistics()
            labels = self.labelling.label(self.begin)  # lines 3-5
            if labels is None:
                break
            self.adapt(labels)  # line 6
            self.measure_round()
        else:
            self.judge_last()
        return self.checkpoints.finish()

    def judge_last(self) -> None:
        """`adapt.stop: auto` asks the last round's model for labels too, unless it has."""
        stopping = self.state.result.get("stopping")
        if not self.config.adapt.rounds or self.config.adapt.stop == "never" or self.state.ended:
            return
        if stopping is None or stopping["models"][-1]["round"] < self.state.round - 1:
            self.labelling.judge_last()

    def pretrain(self) -> None:
        """Train on the source only, or take another run's source model."""
        if self.config.pretrain.checkpoint:
            self.load_pretrained(self.config.pretrain.checkpoint)
        else:
            self.train_source()
            begin_target(self.model)

    def take_target_statistics(self) -> None:
        """`adapt.batchnorm: target`: before the first labels the source model takes the target's statistics."""
        if self.config.adapt.batchnorm != "target" or self.state.round != 1 or self.state.labelled:
            return
        assert isinstance(self.model, EncoderNetwork)
        encoders = [encoder for encoder in (self.model.student(), self.model.teacher) if encoder is not None]
        self.trainer.take_statistics(encoders, self.context.target.train, "statistics of the target")

    def load_pretrained(self, place: str) -> None:
        path = on_this_machine(place, pretrained_files)
        path = RunDirectory(path).round_checkpoint(0) if path.is_dir() else path
        saved = load_checkpoint(path)
        weights = self.model.with_own_parts(saved.get("model", {}))
        load_weights(self.model, {**saved, "model": self.adopt(weights)}, path)

    def adopt(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Another run's weights for this one's network."""
        return weights

    @abstractmethod
    def train_source(self) -> None:
        """:meth:`fit` what trains on the source only."""

    def begin(self, pseudo: PseudoLabels) -> None:
        """What a round's labels ask of the network, before the checkpoint from which the round can continue."""

    @abstractmethod
    def adapt(self, labels: RoundLabels) -> None:
        """:meth:`fit` what trains with a round's labels."""

    def fit(self, stage: SingleEngineStage) -> None:
        saved = self.checkpoints.take_optimizer()
        if saved is not None:
            stage.engine.load_optimizer_state(saved)
        self.trainer.fit(stage)

    def measure_direct_transfer(self) -> None:
        """Accuracy of the source model on its own test set and on the target's; ends round 0."""
        result, answers = self.state.result, dict[str, ScoreFuture]()
        if self.context.source.test is not None:
            answers["in_domain"] = self.trainer.score("source", self.context.source.test)
        if self.context.target.test is not None:
            answers["direct_transfer"] = self.trainer.score("target", self.context.target.test)
        self.labelling.look_ahead()
        names = {"in_domain": "its own test set", "direct_transfer": "the target"}
        for key, answer in answers.items():
            result[key] = answer()
            self.context.note(f"source model: on {names[key]} {accuracy_text(result[key])}")
        self.end_round()

    def measure_round(self) -> None:
        """Accuracy after a round, its line in the result; ends the round."""
        figures, number, rounds = self.state.figures, self.state.round, self.config.adapt.rounds
        if self.context.target.test is not None and (self.config.evaluate.every_round or number == rounds):
            with timed(figures["seconds"], "evaluate"):
                answer = self.trainer.score("target", self.context.target.test)
            self.labelling.look_ahead()
            with timed(figures["seconds"], "evaluate"):
                figures.update(answer())
            self.context.note(f"round {number} of {rounds}: {accuracy_text(figures)}")
        self.state.result.setdefault("rounds", []).append(figures)
        self.end_round()

    def end_round(self) -> None:
        state = self.state
        self.checkpoints.save_round()
        state.round, state.epoch, state.labelled, state.figures = state.round + 1, 0, False, {}
        self.checkpoints.save()

"""EDAAN: attention-guided translation and re-ID trained end to end (Khatun et al.), and its variants, on one process or many."""

from __future__ import annotations

from typing import Any

from distreid.methods.edaan.config import EDAANConfig
from distreid.methods.edaan.network import build_model
from distreid.methods.edaan.report import stages_of
from distreid.methods.edaan.schedule import phases
from distreid.methods.edaan.stages import ReIDStage, TranslationStage
from distreid.training.checkpoints import State
from distreid.training.context import Context
from distreid.training.loop import Trainer, accuracy_text
from distreid.training.meters import timed


class EDAANMethod:
    """One process's part of a run. A round is a stage: one end to end, two for daan and cyclegan, one for direct."""

    def __init__(self, context: Context) -> None:
        self.context, self.settings = context, context.config.group(EDAANConfig)
        self.trainer = Trainer(context, build_model, State(round=1))
        self.model, self.state, self.checkpoints = self.trainer.model, self.trainer.state, self.trainer.checkpoints

    @property
    def stages(self) -> list[str]:
        return stages_of(self.settings.variant)

    def run(self) -> dict[str, Any]:
        """The stages of the variant. Returns what result.json holds."""
        self.checkpoints.resume(len(self.stages))
        while self.state.round <= len(self.stages):
            stage = self.stages[self.state.round - 1]
            self.state.figures = self.state.figures or {"round": self.state.round, "stage": stage, "seconds": {}}
            if stage == "reid":
                self.train_reid()
            else:
                self.train_translation(joint=stage == "joint")
            self.end_stage(measured=stage != "translation")
        return self.checkpoints.finish()

    def train_translation(self, *, joint: bool) -> None:
        """Phase by phase, each from where the one before it left the optimisers and the replayed images."""
        saved = self.checkpoints.take_optimizer()
        for phase in phases(self.settings):
            if phase.until > self.state.epoch:
                stage = TranslationStage(self.context, self.model, self.state.round, phase, joint=joint, saved=saved)
                self.trainer.fit(stage)
                saved = stage.state()

    def train_reid(self) -> None:
        saved = self.checkpoints.take_optimizer()
        self.trainer.fit(ReIDStage(self.context, self.model, self.state.round, saved))

    def end_stage(self, *, measured: bool) -> None:
        """Accuracy of a stage that trained re-ID, its line in the result."""
        state, figures, source, target = self.state, self.state.figures, self.context.source, self.context.target
        with timed(figures["seconds"], "evaluate"):
            if measured and source.test is not None:
                state.result["in_domain"] = self.trainer.score("source", source.test)()
            if measured and target.test is not None:
                figures.update(self.trainer.score("target", target.test)())
        if "in_domain" in state.result:
            self.context.note(f"on its own test set {accuracy_text(state.result['in_domain'])}")
        if "mAP" in figures:
            self.context.note(f"on the target {accuracy_text(figures)}")
        state.result.setdefault("rounds", []).append(figures)
        self.checkpoints.save_round()
        state.round, state.epoch, state.figures = state.round + 1, 0, {}
        self.checkpoints.save()

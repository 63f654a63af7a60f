"""Lines 3 to 5 of DAAM's Algorithm 1, for every method that labels its target round by round: from features to pseudo-labels."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distreid.common.errors import UserError
from distreid.labels import PseudoLabels
from distreid.methods.stopping import Judged, as_record, judge, judged, kept_model
from distreid.training.checkpoints import State
from distreid.training.loop import Trainer
from distreid.training.meters import timed
from distreid.training.protocols import RoundLabels


@dataclass
class RoundState(State):
    """Round 0 is pre-training."""

    labelled: bool = False  # this round's labels are in the run directory
    first_eps: float | None = None


class Labelling:
    """Labels the target, round by round."""

    def __init__(self, trainer: Trainer[Any, RoundState]) -> None:
        self._trainer, self._context, self._state = trainer, trainer.context, trainer.state
        self._ahead: tuple[np.ndarray, float] | None = None  # the next round's features, where they were extracted early
        self._latest_N: np.ndarray | None = None  # the last round's labels, where this process has seen them

    def label(self, begin: Callable[[PseudoLabels], None]) -> RoundLabels | None:
        """This round's labels, None where they end the rounds; a run that died since continues with the ones that it had made.

        ``begin``: what new ones ask of the network, such as a head, before the checkpoint from which the round can continue.
        """
        if self._state.labelled:
            return self.resumed()
        labels, spent = self.make()
        if self.ends(labels, spent):
            return None
        self.require_clusters(labels.pseudo)
        begin(labels.pseudo)
        self.begin_round(labels, spent)
        self._latest_N = labels.pseudo.labels
        return labels

    def make(self) -> tuple[RoundLabels, dict[str, float]]:
        """Labels of the target by the model as it is, and the seconds of each step."""
        shard_nD, seconds = self._ahead or self.target_features()
        self._ahead, spent = None, {"extract": seconds}
        with timed(spent, "label"):
            labels = self.cluster(shard_nD)
        return labels, spent

    def judge_last(self) -> None:
        """Label once more, for `adapt.stop` to judge the last round's model too; nothing is trained with these labels."""
        self.ends(*self.make())

    def ends(self, labels: RoundLabels, seconds: dict[str, float]) -> bool:
        """Whether `adapt.stop` ends the rounds here; the same answer in all processes, which have the same labels."""
        context, state, pseudo = self._context, self._state, labels.pseudo
        if context.config.adapt.stop == "never" or context.rehearsal is not None:
            return False
        rounds, number = context.config.adapt.rounds, state.round
        line = {"event": "judged", **self.line(pseudo, seconds), **labels.figures, **self.stability(pseudo)}
        # Of the rounds before this one: a run that ended, and now has more rounds, judges its last model again.
        before = [Judged(**one) for one in state.result.get("stopping", {}).get("models", []) if one["round"] < number - 1]
        models = [*before, *judged([line], len(pseudo.labels))]
        verdict = judge(models)
        state.result["stopping"] = as_record(models, verdict)
        if verdict.reason:
            context.note(f"ended after round {number - 1} of {rounds}, for {verdict.reason}; kept: {kept_model(verdict.kept)}")
        elif number <= rounds:
            return False
        else:
            context.note(f"nothing speaks against the last round's labels (adapt.stop); kept: {kept_model(verdict.kept)}")
        if context.processes.is_main:
            context.run_directory.append(line)
        self._trainer.checkpoints.save()
        return True

    def resumed(self) -> RoundLabels:
        """The labels that the run directory holds."""
        saved = self._context.run_directory.load_labels(self._state.round)
        normalized = self._context.config.labels.features == "l2"
        self._latest_N = saved["labels"]
        pseudo = PseudoLabels(saved["labels"], saved["centers"], float(saved["eps"]), normalized)
        return RoundLabels(pseudo, saved["features_ND"], {})

    def target_features(self) -> tuple[np.ndarray, float]:
        """This process's shard of what is matched (DAAM: f_sh) over the target, and the seconds it took."""
        seconds: dict[str, float] = {}
        with timed(seconds, "extract"):
            shard_nD = self._trainer.extract(self._context.target.train, "features of the target")
        return shard_nD.astype(self._context.config.runtime.feature_dtype, copy=False), seconds["extract"]

    def look_ahead(self) -> None:
        """Extract the features of the next labelling, if there is one, while those of the test sets are ranked."""
        settings = self._context.config.adapt
        if settings.batchnorm == "target" and self._state.round == 0:
            return  # those features are of a network with other statistics
        if self._state.round < settings.rounds or (settings.rounds and settings.stop == "auto"):
            self._ahead = self.target_features()

    def cluster(self, shard_nD: np.ndarray) -> RoundLabels:
        """Jaccard distances, eps, DBSCAN of the features of all processes."""
        self._context.reporter.stage("pseudo-labels", 0)
        return self._context.labeler.label(f"round-{self._state.round}", shard_nD, self.eps())

    def eps(self) -> float | None:
        """DBSCAN's radius by ``labels.eps``; None: the labelling finds it."""
        settings = self._context.config.labels
        return {"fixed": settings.eps_value, "first_round": self._state.first_eps}.get(settings.eps)

    def require_clusters(self, pseudo: PseudoLabels) -> None:
        """There is nothing to learn from fewer than two."""
        clusters, outliers = len(pseudo.centers), int((pseudo.labels < 0).sum())
        if clusters >= 2:
            return
        found, change = ("no cluster", "larger") if clusters == 0 else ("a single cluster", "smaller")
        settings = self._context.config.labels
        change += " labels.eps_value" if settings.eps == "fixed" else " labels.p"
        change = "labels.eps=proportion" if settings.eps == "quality" else f"a {change}"
        number, run = self._state.round, self._context.run_directory
        raise UserError(
            f"round {number}: {found} among {len(pseudo.labels)} target images (eps={pseudo.eps:.4f}, "
            f"{outliers} outliers); start again in a new output with {change} or another labels.min_samples, and "
            f"pretrain.checkpoint={shlex.quote(run.place(run.round_checkpoint(number - 1)))}, the last good model"
        )

    def begin_round(self, labels: RoundLabels, seconds: dict[str, float]) -> None:
        """All of the round on disk, so that it need not be labelled again."""
        state, pseudo, run = self._state, labels.pseudo, self._context.run_directory
        if state.first_eps is None:
            state.first_eps = pseudo.eps
        state.figures = self.line(pseudo, seconds)
        clusters, outliers = state.figures["clusters"], state.figures["outliers"]
        state.labelled = True
        self._context.note(
            f"round {state.round} of {self._context.config.adapt.rounds}: {clusters:,} clusters, {outliers:,} of "
            f"{len(pseudo.labels):,} images outside them, eps {pseudo.eps:.3f}"
        )
        if self._context.processes.is_main:
            run.save_labels(state.round, labels.features_ND, labels=pseudo.labels, centers=pseudo.centers, eps=np.array(pseudo.eps))
            run.append({"event": "labels", **state.figures, **labels.figures, **self.stability(pseudo)})
        self._trainer.checkpoints.save()

    def line(self, pseudo: PseudoLabels, seconds: dict[str, float]) -> dict[str, Any]:
        """The round's line of the result, as far as its labels tell it."""
        clusters, outliers = len(pseudo.centers), int((pseudo.labels < 0).sum())
        return {"round": self._state.round, "eps": pseudo.eps, "clusters": clusters, "outliers": outliers, "seconds": seconds}

    def stability(self, pseudo: PseudoLabels) -> dict[str, Any]:
        """How far this round's labels agree with the last round's."""
        if self._state.round == 1:
            return {}
        from distreid.labels.quality import agreement  # brings numba, which importing this module must not

        if self._latest_N is None:
            self._latest_N = self._context.run_directory.round_labels(self._state.round - 1)["labels"]
        return {"agreement": agreement(pseudo.labels, self._latest_N)}

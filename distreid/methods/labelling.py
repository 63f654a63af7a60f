"""Lines 3 to 5 of DAAM's Algorithm 1, for every method that labels its target round by round: from features to pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distreid.common.errors import UserError
from distreid.labels import PseudoLabels
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

    def label(self, begin: Callable[[PseudoLabels], None]) -> RoundLabels:
        """This round's labels; a run that died since continues with the ones that it had made.

        ``begin``: what new ones ask of the network, such as a head, before the checkpoint from which the round can continue.
        """
        if self._state.labelled:
            return self.resumed()
        shard_nD, seconds = self._ahead or self.target_features()
        self._ahead, spent = None, {"extract": seconds}
        with timed(spent, "label"):
            labels = self.cluster(shard_nD)
        self.require_clusters(labels.pseudo)
        begin(labels.pseudo)
        self.begin_round(labels, spent)
        return labels

    def resumed(self) -> RoundLabels:
        """The labels that the run directory holds."""
        saved = self._context.run_directory.load_labels(self._state.round)
        normalized = self._context.config.labels.features == "l2"
        pseudo = PseudoLabels(saved["labels"], saved["centers"], float(saved["eps"]), normalized)
        return RoundLabels(pseudo, saved["features_ND"], {})

    def target_features(self) -> tuple[np.ndarray, float]:
        """This process's shard of what is matched (DAAM: f_sh) over the target, and the seconds it took."""
        seconds: dict[str, float] = {}
        with timed(seconds, "extract"):
            shard_nD = self._trainer.extract(self._context.target.train, "features of the target")
        return shard_nD.astype(self._context.config.runtime.feature_dtype, copy=False), seconds["extract"]

    def look_ahead(self) -> None:
        """Extract the features of the next round, if there is one, while those of the test sets are ranked."""
        if self._state.round < self._context.config.adapt.rounds:
            self._ahead = self.target_features()

    def cluster(self, shard_nD: np.ndarray) -> RoundLabels:
        """Jaccard distances, eps, DBSCAN of the features of all processes."""
        self._context.reporter.stage("pseudo-labels", 0)
        return self._context.labeler.label(f"round-{self._state.round}", shard_nD, self.eps())

    def eps(self) -> float | None:
        """DBSCAN's radius by ``labels.eps``; None: it is derived from the proportion p."""
        settings = self._context.config.labels
        return {"fixed": settings.eps_value, "first_round": self._state.first_eps, "proportion": None}[settings.eps]

    def require_clusters(self, pseudo: PseudoLabels) -> None:
        """There is nothing to learn from fewer than two."""
        clusters, outliers = len(pseudo.centers), int((pseudo.labels < 0).sum())
        if clusters >= 2:
            return
        found, change = ("no cluster", "larger") if clusters == 0 else ("a single cluster", "smaller")
        key = "labels.eps_value" if self._context.config.labels.eps == "fixed" else "labels.p"
        number, run = self._state.round, self._context.run_directory
        raise UserError(
            f"round {number}: {found} among {len(pseudo.labels)} target images (eps={pseudo.eps:.4f}, "
            f"{outliers} outliers); start again in a new output with a {change} {key} or another labels.min_samples, and "
            f"pretrain.checkpoint={run.place(run.round_checkpoint(number - 1))}, the last good model"
        )

    def begin_round(self, labels: RoundLabels, seconds: dict[str, float]) -> None:
        """All of the round on disk, so that it need not be labelled again."""
        state, pseudo, run = self._state, labels.pseudo, self._context.run_directory
        clusters, outliers = len(pseudo.centers), int((pseudo.labels < 0).sum())
        if state.first_eps is None:
            state.first_eps = pseudo.eps
        state.figures = {"round": state.round, "eps": pseudo.eps, "clusters": clusters, "outliers": outliers, "seconds": seconds}
        state.labelled = True
        self._context.note(
            f"round {state.round} of {self._context.config.adapt.rounds}: {clusters:,} clusters, {outliers:,} of "
            f"{len(pseudo.labels):,} images outside them, eps {pseudo.eps:.3f}"
        )
        if self._context.processes.is_main:
            run.save_labels(state.round, labels.features_ND, labels=pseudo.labels, centers=pseudo.centers, eps=np.array(pseudo.eps))
            run.append({"event": "labels", **state.figures, **labels.figures, **self.stability(pseudo)})
        self._trainer.checkpoints.save()

    def stability(self, pseudo: PseudoLabels) -> dict[str, Any]:
        """How far this round's labels agree with the last round's."""
        if self._state.round == 1:
            return {}
        from distreid.labels.quality import agreement  # brings numba, which importing this module must not

        before = self._context.run_directory.round_labels(self._state.round - 1)["labels"]
        return {"agreement": agreement(pseudo.labels, before)}

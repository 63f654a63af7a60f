"""What the loops ask of the world around them. A loop reads the same in one process and on forty GPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:  # these bring torch, which the monitor's process does without
    from distreid.data.loader import View
    from distreid.labels import PseudoLabels
    from distreid.training.loop import Trainer
    from distreid.training.stage import Stage


@dataclass(frozen=True)
class RoundLabels:
    """A round's labels and the features they were made of.

    Attributes:
        pseudo: cluster of each target image and the cluster centres.
        features_ND: f_i of Eq. 4, the features that were clustered; float32 or float16 [N, D], read-only, one copy
            a node.
        figures: numbers about the labelling for the log (seconds a stage, memory, quality).
    """

    pseudo: PseudoLabels
    features_ND: np.ndarray
    figures: dict[str, Any] = field(default_factory=dict)


ScoreFuture = Callable[[], dict[str, float]]
"""The future of mAP and CMC: a call waits for them."""


class Labeler(Protocol):
    """Where the target's features go to be labelled.

    Every process hands in its contiguous shard (in rank order) and receives the answer for the whole. No process waits inside
    a collective meanwhile. ``key`` names the request, the same in every process.
    """

    def label(self, key: str, shard_nD: np.ndarray, eps: float | None) -> RoundLabels:
        """Pseudo-labels of the whole target; ``eps`` None derives it from the proportion p."""
        ...


class Evaluator(Protocol):
    """Where a test set's features go to be ranked; handed in like a :class:`Labeler`'s."""

    def score(self, key: str, test: str, shard_nD: np.ndarray) -> ScoreFuture:
        """Begin to rank the test set named ``test``: its query rows, then its gallery rows."""
        ...


class Reporter(Protocol):
    """Where progress is shown. Calls are cheap and may be dropped."""

    def stage(self, title: str, total: int, done: int = 0) -> None:
        """A long step of ``total`` units begins, ``done`` of them finished before (a resumed run); total 0: length unknown."""
        ...

    def advance(self, done: int, figures: dict[str, float]) -> None:
        """``done`` units of the current step are finished; figures are shown beside it."""
        ...

    def measure(self, losses: dict[str, float], images_per_second: float) -> None:
        """For dashboards: the loss terms' means over the processes, and the training images a second of this process."""
        ...

    def note(self, text: str) -> None:
        """A line that stays."""
        ...

    def stopping(self) -> bool:
        """Whether this process was given notice (SIGTERM) that it has to end soon."""
        ...

    def leaving(self) -> bool:
        """Whether a node of the run is about to be taken away: the same answer in all processes, which must all ask."""
        ...


class Rehearsal(Protocol):
    """What a trainer does of a run that is only planned (:mod:`distreid.methods.rehearsal`)."""

    def fit(self, trainer: Trainer[Any, Any], stage: Stage) -> None:
        """In place of a stage's epochs."""
        ...

    def extract(self, trainer: Trainer[Any, Any], images: View, title: str, *, flip: bool) -> np.ndarray:
        """In place of a pass over the images: an array of the shape of this process's shard of the features."""
        ...

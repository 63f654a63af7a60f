"""Labels and scores of one process: of the whole at once. The Ray actor of `cluster` wraps these two."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from distreid.evaluation import Features, Measured, compared_by_camera, hit_ranks, measure
from distreid.evaluation.protocols import Ranker
from distreid.labels import LabelSettings, make_pseudo_labels
from distreid.labels.api import label_device
from distreid.training.domains import TestSet
from distreid.training.protocols import RoundLabels, ScoreFuture

if TYPE_CHECKING:
    from distreid.retrieval.lists import Search  # brings numba


class LocalLabeler:
    """Implements :class:`distreid.training.protocols.Labeler` for features that are whole.

    Args:
        device: where ``labels.device: auto`` works.
        camids: the target's cameras, for the ``labels.camera_…`` keys; int64 [N].
        search: a neighbour search in place of the engine's own.

    Raises:
        UserError: ``labels.device`` is not on this machine.
    """

    def __init__(
        self,
        labels: LabelSettings,
        device: torch.device,
        *,
        camids: np.ndarray | None = None,
        search: Search | None = None,
    ) -> None:
        self._labels = labels
        self._device = label_device(device.type if labels.device == "auto" else labels.device)
        self._camids, self._search = camids if labels.camera_keys else None, search

    def label(self, key: str, features_ND: np.ndarray, eps: float | None) -> RoundLabels:
        pseudo = make_pseudo_labels(
            features_ND.astype(np.float32, copy=False),
            self._labels,
            camids=self._camids,
            eps=eps,
            search=self._search,
            device=self._device,
        )
        return RoundLabels(pseudo, features_ND, {"quality": pseudo.quality, "stats": pseudo.stats})

    def warm_up(self) -> None:
        """Label a few random points: numba compiles the engine (10 s on a fresh machine) while nobody waits for it."""
        features_ND = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
        settings = LabelSettings(k1=10, k2=3, p=0.05, min_samples=2, dbscan=self._labels.dbscan)
        make_pseudo_labels(features_ND, settings, device=self._device)


class LocalEvaluator:
    """Implements :class:`distreid.training.protocols.Evaluator` for features that are whole; ``tests`` by name."""

    def __init__(self, tests: dict[str, TestSet], device: torch.device) -> None:
        self._tests, self._device = tests, device.type

    def score(self, key: str, test: str, features_nD: np.ndarray) -> ScoreFuture:
        """Nothing goes on meanwhile in one process: the call ranks."""
        return lambda: measure_test_set(self._tests[test], features_nD, partial(hit_ranks, device=self._device)).metrics


def measure_test_set(test: TestSet, features_nD: np.ndarray, ranker: Ranker, *, camera_normalize: bool = False) -> Measured:
    """Tests features of a test set's images by its own protocol. ``camera_normalize``: `compared_by_camera`."""
    if camera_normalize:
        features_nD = compared_by_camera(features_nD, test.camids)
    query, gallery = (Features(features_nD[side], test.pids[side], test.camids[side]) for side in test.sides)
    return measure(query, gallery, test.protocol.name, test.protocol.test_pids, ranker=ranker)

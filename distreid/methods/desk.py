"""The desk of one process: labels and scores the whole at once. The Ray actor of `cluster` wraps this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from distreid.config import LabelsConfig
from distreid.evaluation import Features, rank
from distreid.labels import CameraLists, make_pseudo_labels
from distreid.labels.engine import check_device
from distreid.methods.domains import TestSet
from distreid.methods.protocols import RoundLabels

if TYPE_CHECKING:
    from distreid.labels.lists import Search  # brings numba


class LocalDesk:
    """Implements :class:`distreid.methods.protocols.Desk` for features that are whole.

    Args:
        tests: pids, camids and number of queries of each test set, by name.
        device: where ``labels.device: auto`` works.
        camids: the target's cameras, for ``labels.camera_aware``; int64 [N].
        search: a neighbour search in place of the engine's own.

    Raises:
        UserError: ``labels.device`` is not on this machine.
    """

    def __init__(
        self,
        labels: LabelsConfig,
        tests: dict[str, TestSet],
        device: torch.device,
        *,
        camids: np.ndarray | None = None,
        search: Search | None = None,
    ) -> None:
        self._labels = labels
        self._tests = {name: (test.pids, test.camids, test.queries) for name, test in tests.items()}
        self._device = device.type if labels.device == "auto" else labels.device
        check_device(self._device)
        self._camids, self._search = camids if labels.camera_aware else None, search

    def label(self, key: str, features_ND: np.ndarray, eps: float | None) -> RoundLabels:
        how = self._labels
        pseudo = make_pseudo_labels(
            features_ND,
            k1=how.k1,
            k2=how.k2,
            p=how.p,
            min_samples=how.min_samples,
            eps=eps,
            camids_N=self._camids,
            cameras=CameraLists(how.k1_intra, how.k1_inter, how.k2_intra, how.k2_inter),
            normalize_centers=how.features == "l2",
            neighbours=how.neighbours,
            search=self._search,
            device=self._device,
        )
        return RoundLabels(pseudo, features_ND, {"quality": pseudo.quality, "stats": pseudo.stats})

    def score(self, key: str, test: str, features_nD: np.ndarray) -> dict[str, float]:
        pids, camids, queries = self._tests[test]
        metrics = rank(
            Features(features_nD[:queries], pids[:queries], camids[:queries]),
            Features(features_nD[queries:], pids[queries:], camids[queries:]),
            device=self._device,
        )
        return metrics.as_dict()

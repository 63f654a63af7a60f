"""The desk of one process: labels and scores the whole at once. The Ray actor of `cluster` wraps this one."""

from __future__ import annotations

import numpy as np
import torch

from distreid.config import LabelsConfig
from distreid.evaluation import Features, rank
from distreid.labels import make_pseudo_labels
from distreid.methods.domains import TestSet
from distreid.methods.protocols import RoundLabels


class LocalDesk:
    """Implements :class:`distreid.methods.protocols.Desk` for features that are whole.

    Args:
        tests: pids, camids and number of queries of each test set, by name.
        device: where ``labels.device: auto`` works.
    """

    def __init__(self, labels: LabelsConfig, tests: dict[str, TestSet], device: torch.device) -> None:
        self._labels = labels
        self._tests = {name: (test.pids, test.camids, test.queries) for name, test in tests.items()}
        self._device = device.type if labels.device == "auto" else labels.device

    def label(self, key: str, features_ND: np.ndarray, eps: float | None) -> RoundLabels:
        how = self._labels
        pseudo = make_pseudo_labels(
            features_ND.astype(np.float32, copy=False),
            k1=how.k1,
            k2=how.k2,
            p=how.p,
            min_samples=how.min_samples,
            eps=eps,
            normalize_centers=how.features == "l2",
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

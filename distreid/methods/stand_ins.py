"""What stands in the world's place while a run is rehearsed: data, labels, accuracy and other processes, all of no content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from distreid.data.loader import View
from distreid.labels import PseudoLabels
from distreid.training import ProcessGroup
from distreid.training.domains import DomainData
from distreid.training.protocols import RoundLabels, ScoreFuture

PER_CLUSTER = 20  # images that a cluster is taken to hold: Market-1501 has 17 of a person, MSMT17 31


class Alone(ProcessGroup):
    """The first of so many processes, without the others: it takes its slice of all, and gets back what it sends."""

    is_main = False  # nothing is written
    averages = False

    def mean(self, values: Tensor) -> Tensor:
        return values.clone()

    def gather(self, mine: Tensor) -> Tensor:
        return torch.cat([mine] * self.world)

    def all_equal(self, text: str) -> bool:
        return True

    def texts(self, mine: str) -> list[str]:
        return [mine] * self.world

    def any(self, mine: bool) -> bool:
        return mine

    def average_buffers(self, model: nn.Module, weight: float = 1.0) -> None:
        pass

    def barrier(self) -> None:
        pass


class BlankLabeler:
    """Implements :class:`distreid.training.protocols.Labeler`: clusters of equal size, no outliers.

    Args:
        asked: called at each request. images: N. normalized: as in :class:`distreid.labels.PseudoLabels`.
    """

    def __init__(self, asked: Callable[[], None], images: int, *, normalized: bool) -> None:
        self._asked, self._images, self._normalized = asked, images, normalized

    def label(self, key: str, shard_nD: np.ndarray, eps: float | None) -> RoundLabels:
        self._asked()
        n, dim = self._images, shard_nD.shape[1]
        clusters = max(2, n // PER_CLUSTER)
        pseudo = PseudoLabels(np.arange(n) * clusters // n, np.zeros((clusters, dim), np.float32), 0.5, self._normalized)
        return RoundLabels(pseudo, np.broadcast_to(shard_nD[:1], (n, dim)))


class BlankEvaluator:
    """Implements :class:`distreid.training.protocols.Evaluator`; ``asked`` is called with each test set's name."""

    def __init__(self, asked: Callable[[str], None]) -> None:
        self._asked = asked

    def score(self, key: str, test: str, shard_nD: np.ndarray) -> ScoreFuture:
        self._asked(test)
        return lambda: dict.fromkeys(("mAP", "rank1", "rank5", "rank10"), 0.0)


class Silent:
    """Implements :class:`distreid.training.protocols.Reporter`."""

    def stage(self, title: str, total: int, done: int = 0) -> None: ...

    def advance(self, done: int, figures: dict[str, float]) -> None: ...

    def measure(self, losses: dict[str, float], images_per_second: float) -> None: ...

    def note(self, text: str) -> None: ...

    def stopping(self) -> bool:
        return False

    def leaving(self) -> bool:
        return False


class Blank:
    """So many images of noise; implements :class:`distreid.data.loader.Images`."""

    def __init__(self, count: int) -> None:
        self._count = count

    def read(self, indices: np.ndarray, height: int, width: int) -> Tensor:
        return torch.randint(0, 256, (len(indices), 3, height, width), dtype=torch.uint8)

    def __len__(self) -> int:
        return self._count


def blank(domain: DomainData) -> DomainData:
    """The same sizes and identities, without images."""
    test = domain.test
    return replace(
        domain,
        train=blank_view(len(domain.train)),
        test=None if test is None else replace(test, images=blank_view(len(test.images))),
    )


def blank_view(count: int) -> View:
    return View(Blank(count), np.arange(count))

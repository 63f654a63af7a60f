"""What a plan is made for: how many images, and what was measured."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distreid.actions.train import packed
from distreid.common.errors import UserError
from distreid.config import Config, DomainConfig
from distreid.data.records import Protocol
from distreid.evaluation.protocols import SHOTS
from distreid.methods.registry import find
from distreid.methods.stand_ins import blank_view
from distreid.training.domains import DomainData, TestSet, open_domain

IMAGES, IDENTITIES = 12_936, 751  # of a source that is not there to count: Market-1501's


@dataclass(frozen=True)
class Figures:
    """What was measured, as `distreid bench train|labels|score --json` prints it; None where it was not."""

    train: dict[str, Any] | None = None
    labels: dict[str, Any] | None = None
    score: dict[str, Any] | None = None


def sized(name: str, images: int, identities: int = IDENTITIES, queries: int = 0, gallery: int = 0) -> DomainData:
    """A domain of so many images that is not there; a test set where there are queries and a gallery."""
    none = np.full(images, -1, dtype=np.int64)
    nobody = np.zeros(queries + gallery, dtype=np.int64)
    test = TestSet(blank_view(queries + gallery), nobody, nobody, queries) if queries and gallery else None
    return DomainData(name, blank_view(images), np.arange(images) * identities // images, none, identities, test, name, name)


def domains_of(
    config: Config, images: int | None, queries: int | None, gallery: int | None, sources: int | None
) -> tuple[DomainData, DomainData]:
    """Source and target: of the sizes given, else the packed sets; a source that is not there is taken to be Market-1501's.

    ``images``: of the target, or of the source where the method labels no target.

    Raises:
        UserError: neither is there, or a number is not positive.
    """
    for name, value in (("--images", images), ("--source-images", sources)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    labels_target = find(config.method).labels_target
    if images is not None:
        sources = sources or (None if labels_target else images)
        target = sized("target", images, queries=queries or 0, gallery=gallery or 0)
    else:
        for domain in (config.target, *(() if labels_target else (config.source,))):
            missing = _missing(domain)
            if missing is not None:
                raise UserError(f"{missing}: no such packed file to count; give --images (and --queries, --gallery)")
        target = open_domain(packed(config.target), labelled=False, tested=config.evaluate.target)
        if queries or gallery:
            target = replace(target, test=sized("", 1, 1, queries or 0, gallery or 0).test)
    return _source(config.source, sources, tested=config.evaluate.source), target


def _source(config: DomainConfig, images: int | None, *, tested: bool) -> DomainData:
    if images is None and _missing(config) is None:
        return open_domain(packed(config), labelled=True, tested=tested)
    images = images or IMAGES
    return sized("source", images, max(2, min(IDENTITIES, images // 2)))


def _missing(domain: DomainConfig) -> str | None:
    """The first of a domain's data sets that is no file here."""
    places = [one.data for one in domain.members()] or [domain.data]
    return next((place for place in places if not Path(place).is_file()), None)


def read_figures(files: list[Path]) -> Figures:
    """Which bench a file is of is seen from its keys.

    Raises:
        UserError: a file that `distreid bench --json` did not write.
    """
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        try:
            figures = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from None
        except ValueError:
            figures = None
        marks = {"fp32_images_per_second": "train", "seconds_product": "labels", "rank_seconds": "score"}
        kind = next((kind for mark, kind in marks.items() if isinstance(figures, dict) and mark in figures), None)
        if kind is None:
            raise UserError(f"{file}: not figures of a bench; write them with: distreid bench train --json > {file}")
        found[kind] = figures
    return Figures(**found)


def compared(test: TestSet) -> int:
    """Query-gallery pairs that a test ranks, over all splits and directions of its protocol."""
    return _compared(test.pids, test.sides, test.protocol)


def _compared(pids: np.ndarray, sides: tuple[slice, slice], protocol: Protocol) -> int:
    if protocol.name == "single_query":
        query, gallery = (side.stop - side.start for side in sides)
        return query * gallery
    queries, galleries = (pids[side] for side in sides)
    total = 0
    for tested in protocol.test_pids:
        asked = int(np.isin(queries, tested).sum())
        if protocol.name == "single_shot":
            total += SHOTS * asked * len(tested)
        else:  # both ways
            total += asked * len(galleries) + int(np.isin(galleries, tested).sum()) * len(queries)
    return total

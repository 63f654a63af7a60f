"""A camera network as a method sees it: images to train on, and images to be tested on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from distreid.common.errors import UserError
from distreid.config import Config, DomainConfig, SetConfig
from distreid.data import Domain, ImageStore, relabel, select, sets_of
from distreid.data.loader import Stacked, View
from distreid.data.records import SINGLE_QUERY, UNKNOWN, Protocol
from distreid.data.selection import Split

MAX_DECODERS = 8  # threads: enough for one GPU, and a worker has as many threads as cores


@dataclass(frozen=True)
class TestSet:
    """Query images, then gallery images; where each is both (CUHK03), they stand there once. pids, camids: int64 [images]."""

    images: View
    pids: np.ndarray
    camids: np.ndarray
    queries: int
    protocol: Protocol = SINGLE_QUERY

    @property
    def cameras(self) -> bool:
        """Whether any image's camera is known; without, a test leaves out nothing but the query itself."""
        return bool((self.camids != UNKNOWN).any())

    @property
    def sides(self) -> tuple[slice, slice]:
        """Where the query images stand, and the gallery's."""
        shared = self.queries == len(self.pids)
        return slice(0, self.queries), slice(0 if shared else self.queries, len(self.pids))

    def __str__(self) -> str:
        """What it holds, in a few words."""
        query, gallery = (side.stop - side.start for side in self.sides)
        if self.protocol.name == "single_shot":
            return f"{query:,} images of {len(np.unique(self.pids)):,} identities, one gallery image each"
        if self.protocol.name == "cross_camera":
            return f"cameras of {query:,} and {gallery:,} images"
        return f"{query:,} queries, {gallery:,} gallery" + ("" if self.cameras else ", cameras unknown")


@dataclass(frozen=True)
class DomainData:
    """Training images, their labels 0 .. identities-1 (source only) and cameras (-1: unknown), both int64 [n], and the test set, if
    there is one."""

    name: str
    train: View
    labels: np.ndarray | None
    camids: np.ndarray
    identities: int
    test: TestSet | None
    given: str  # the file or folder that the user named
    content: str  # the packed file's hash and the selection; all workers must see the same
    untested: str = ""  # why there is no test set although the data have one
    sets: np.ndarray | None = None  # which of several sets each training image came from, where batches are balanced; int64 [n]

    def __str__(self) -> str:
        """What it holds, in a line."""
        if not len(self.train) and self.test is None:
            return f"none ({self.name})"
        identities = f" of {self.identities:,} identities" if self.labels is not None else ", unlabelled"
        if self.sets is not None:
            identities += f", batches balanced between {self.sets.max() + 1} sets"
        return f"{self.name}: {len(self.train):,} images{identities}; test: {self.test or self.untested or 'none'}"


def decoders() -> int:
    """Threads that decode a store's images in this process."""
    return min(MAX_DECODERS, torch.get_num_threads())


def open_pair(config: Config) -> tuple[DomainData, DomainData]:
    """Source and target of a run, with the test sets that it is to be measured on."""
    settings = config.evaluate
    source = open_domain(config.source, labelled=True, tested=settings.source)
    return source, open_domain(config.target, labelled=False, tested=settings.target)


def open_domain(config: DomainConfig, *, labelled: bool, training: bool = True, tested: bool = True) -> DomainData:
    """Open a packed data set and select cameras and identities.

    Args:
        labelled: whether training may see the identities: the source's, never the target's. A source without data is none
            (:func:`no_source`); which methods may do without is the configuration's to check.
        training: whether training images are needed. Where a set has random splits, training takes the first unless told another,
            testing takes all.
        tested: whether accuracy is to be measured.
    """
    if labelled and not config.data:
        return no_source()
    assert not config.members(), "actions.train.packed makes one file of several"
    store = ImageStore.open(config.data, threads=decoders())
    split = config.split
    if split is None and training and store.protocol.test_pids:
        split = 0
    domain = select(store, **choices(config) | {"split": split})
    if training and not len(domain.train.rows):
        raise UserError(f"{store.shown}: no training image is left after the selection of cameras and identities")
    labels, count, sets = None, 0, None
    if labelled:
        if (domain.train.pids < 0).any():
            raise _without_identities(store, domain.train)
        labels, count = relabel(domain.train.pids)
        if count < 2:
            raise UserError(f"{store.shown}: a source with {count} identity cannot be trained on; at least 2 are needed")
    selection = f"{config.cameras} {config.identities} {config.holdout}"
    selection += "" if config.holdout_seed is None else f" seed {config.holdout_seed}"
    selection += " no cameras" if config.no_cameras else ""
    selection += "" if split is None else f" {split}"  # the last word: `distreid evaluate` reads it
    train, camids, content = View(store, domain.train.rows), domain.train.camids, store.content_hash
    if labelled and labels is not None and config.extra:
        train, labels, camids, content = _with_extra(config, train, domain.train, labels, content)
    if labelled and labels is not None and config.balance:
        sets = _sets_of_labels(store, domain.train)[labels]
    test = _test_set(store, domain)
    untested = "turned off" if test and not tested else ""
    if test and tested and not _has_positive(test):
        untested = "none, its queries have no gallery image of their person under another camera; accuracy is not measured"
        untested += " (no_cameras=true does it whatever the camera)"
    content = f"{content} {selection}"
    return DomainData(store.name, train, labels, camids, count, None if untested else test, store.shown, content, untested, sets)


def choices(config: SetConfig) -> dict[str, Any]:
    """What is taken of a data set, as :func:`distreid.data.select` asks for it."""
    identities = (config.identities[0], config.identities[1]) if config.identities is not None else None
    names = ("cameras", "holdout", "holdout_seed", "split", "no_cameras")
    return {"identities": identities} | {name: getattr(config, name) for name in names}


def _without_identities(store: ImageStore, train: Split) -> UserError:
    """The complaint about a source that has images without; of several sets the first such is named."""
    if not sets_of(store).any():
        return UserError(f"{store.shown}: a source needs identities, and this set has none (format {store.format})")
    folder, _, _ = str(store.paths[train.rows[train.pids < 0][0]]).partition("/")
    return UserError(f"{store.shown}: a source needs identities, and its set {folder} has none")


def _sets_of_labels(store: ImageStore, train: Split) -> np.ndarray:
    """Which of the merged sets each label's images came from, numbered from 0 without a gap, int64 [labels]."""
    _, first = np.unique(train.pids, return_index=True)
    known, sets = np.unique(sets_of(store)[train.rows[first]], return_inverse=True)
    if len(known) < 2:
        raise UserError(f"{store.shown}: one set of images; source.balance needs several (source: [PATH, PATH])")
    return sets.astype(np.int64)


class _NoImages:
    """Implements :class:`distreid.data.loader.Images` for nothing."""

    def read(self, indices: np.ndarray, height: int, width: int) -> torch.Tensor:
        return torch.empty(len(indices), 3, height, width, dtype=torch.uint8)


def no_source() -> DomainData:
    """A labelled network of no images."""
    nothing = np.zeros(0, np.int64)
    return DomainData("no source", View(_NoImages(), nothing), nothing, nothing, 0, None, "", "no source")


def _has_positive(test: TestSet) -> bool:
    """Whether any query's person is in the gallery under another camera; an unknown camera (-1) is another one."""
    query, gallery = test.sides
    seen: dict[int, set[int]] = {}
    for pid, camid in zip(test.pids[gallery].tolist(), test.camids[gallery].tolist(), strict=True):
        seen.setdefault(pid, set()).add(camid)
    asked = zip(test.pids[query].tolist(), test.camids[query].tolist(), strict=True)
    return any(seen.get(pid, set()) - ({camid} - {UNKNOWN}) for pid, camid in asked)


def _test_set(store: ImageStore, domain: Domain) -> TestSet | None:
    query, gallery = domain.query, domain.gallery
    if not len(query) or not len(gallery):
        return None
    sides = [query] if np.array_equal(query.rows, gallery.rows) else [query, gallery]
    rows, pids, camids = (np.concatenate([getattr(side, name) for side in sides]) for name in ("rows", "pids", "camids"))
    return TestSet(View(store, rows), pids, camids, len(query), domain.protocol)


def _with_extra(
    config: DomainConfig, train: View, split: Split, labels: np.ndarray, content: str
) -> tuple[View, np.ndarray, np.ndarray, str]:
    """The training images and those of ``config.extra`` with the same people; their labels and cameras; the content of both."""
    pids = split.pids
    store = ImageStore.open(config.extra, threads=decoders())
    rows = np.flatnonzero((store.splits == "train") & np.isin(store.pids, pids))
    if config.cameras is not None:
        rows = rows[np.isin(store.camids[rows], config.cameras)]
    if not len(rows):
        raise UserError(f"source.extra={config.extra}: none of its training images shows a person of {config.data}")
    label_of = dict(zip(pids.tolist(), labels.tolist(), strict=True))
    more = np.array([label_of[pid] for pid in store.pids[rows].tolist()], dtype=np.int64)
    camids = np.concatenate([split.camids, store.camids[rows]])
    both = Stacked((train.store, train.rows), (store, rows))
    return View(both, np.arange(len(both))), np.concatenate([labels, more]), camids, f"{content} {store.content_hash}"

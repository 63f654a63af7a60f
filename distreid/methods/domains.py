"""A camera network as a method sees it: images to train on, and images to be tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from distreid.config import DomainConfig
from distreid.data import ImageStore, relabel, select
from distreid.data.loader import Stacked, View
from distreid.errors import UserError

MAX_DECODERS = 8  # threads: enough for one GPU, and a worker has as many threads as cores


@dataclass(frozen=True)
class TestSet:
    """Query images, then gallery images. pids, camids: int64 [queries + gallery]."""

    images: View
    pids: np.ndarray
    camids: np.ndarray
    queries: int


@dataclass(frozen=True)
class Network:
    """Training images, their labels 0 .. identities-1 (source only; int64 [n]), and the test set, if there is one."""

    name: str
    train: View
    labels: np.ndarray | None
    identities: int
    test: TestSet | None
    content: str  # the packed file's hash and the selection; all workers must see the same


def open_network(config: DomainConfig, *, labelled: bool, training: bool = True) -> Network:
    """Open a packed data set and select cameras and identities.

    Args:
        labelled: whether training may see the identities: the source's, never the target's.
        training: whether training images are needed.
    """
    store = ImageStore.open(config.data, threads=min(MAX_DECODERS, torch.get_num_threads()))
    identities = (config.identities[0], config.identities[1]) if config.identities is not None else None
    domain = select(store, cameras=config.cameras, identities=identities, holdout=config.holdout)
    if training and not len(domain.train.rows):
        raise UserError(f"{config.data}: no training image is left after the selection of cameras and identities")
    labels, count = None, 0
    if labelled:
        if (domain.train.pids < 0).any():
            raise UserError(f"{config.data}: a source needs identities, and this set has none (format folder)")
        labels, count = relabel(domain.train.pids)
        if count < 2:
            raise UserError(f"{config.data}: a source with {count} identity cannot be trained on; at least 2 are needed")
    test = None
    if len(domain.query.rows) and len(domain.gallery.rows):
        test = TestSet(
            View(store, np.concatenate([domain.query.rows, domain.gallery.rows])),
            np.concatenate([domain.query.pids, domain.gallery.pids]),
            np.concatenate([domain.query.camids, domain.gallery.camids]),
            len(domain.query.rows),
        )
    train, content = View(store, domain.train.rows), store.content_hash
    if labelled and labels is not None and config.extra:
        train, labels, content = _with_extra(config, train, domain.train.pids, labels, content)
    selection = f"{config.cameras} {config.identities} {config.holdout}"
    return Network(store.name, train, labels, count, test, f"{content} {selection}")


def _with_extra(
    config: DomainConfig, train: View, pids: np.ndarray, labels: np.ndarray, content: str
) -> tuple[View, np.ndarray, str]:
    """The training images followed by those of ``config.extra`` that show the same people; their labels; the content of both."""
    store = ImageStore.open(config.extra, threads=min(MAX_DECODERS, torch.get_num_threads()))
    rows = np.flatnonzero((store.splits == "train") & np.isin(store.pids, pids))
    if config.cameras is not None:
        rows = rows[np.isin(store.camids[rows], config.cameras)]
    if not len(rows):
        raise UserError(f"source.extra={config.extra}: none of its training images shows a person of {config.data}")
    label_of = dict(zip(pids.tolist(), labels.tolist(), strict=True))
    more = np.array([label_of[pid] for pid in store.pids[rows].tolist()], dtype=np.int64)
    both = Stacked((train.store, train.rows), (store, rows))
    return View(both, np.arange(len(both))), np.concatenate([labels, more]), f"{content} {store.content_hash}"

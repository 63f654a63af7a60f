"""A camera network as a method sees it: images to train on, and images to be tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from distreid.config import DomainConfig
from distreid.data import ImageStore, relabel, select
from distreid.data.loader import View
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
    """Training images, their labels 0 .. identities-1 (source only) and cameras (-1: unknown), both int64 [n], and the test set, if
    there is one."""

    name: str
    train: View
    labels: np.ndarray | None
    camids: np.ndarray
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
    selection = f"{config.cameras} {config.identities} {config.holdout}"
    return Network(
        store.name, View(store, domain.train.rows), labels, domain.train.camids, count, test, f"{store.content_hash} {selection}"
    )

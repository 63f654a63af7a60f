"""Accuracy by a data set's protocol: of a run or a checkpoint, and of anybody's features."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distreid.actions.train import packed
from distreid.common.errors import UserError
from distreid.common.files import check_writable
from distreid.common.terminal import bar
from distreid.config import Config, DomainConfig
from distreid.data import ImageStore
from distreid.data.loader import View
from distreid.evaluation import (
    Features,
    compared_by_camera,
    hit_ranks,
    load_npz,
    load_protocol,
    measure,
    reranked_hits,
    write_per_query,
)
from distreid.methods.local import training_device
from distreid.methods.networks import load_model, trained_on
from distreid.models import ReIDNetwork
from distreid.training import Precision
from distreid.training.domains import open_domain
from distreid.training.features import extract
from distreid.training.in_process import measure_test_set


def evaluate(
    checkpoint: Path,
    data: str | None,
    format: str,
    *,
    pattern: str = "",
    no_cameras: bool = False,
    flip: bool = False,
    rerank: bool = False,
    camera_normalize: bool = False,
    per_query: Path | None = None,
) -> dict[str, Any]:
    """Accuracy of a run (its last finished round) or a checkpoint by the data set's protocol.

    Args:
        data: None takes the run's own target and selection.
        pattern: for ``format``; see `distreid.data.read_dataset`.
        no_cameras: take every camera for unknown.
        flip: average the features of each image and its mirror image.
        camera_normalize: compare features less the mean of their camera's, over its deviation (`compared_by_camera`).
        per_query: also write each query's figures to this Parquet file.
    """
    check_writable(per_query)
    model, config, file = load_model(checkpoint)
    domain = packed(config.target if data is None else DomainConfig(data=data, format=format, pattern=pattern))
    domain = dataclasses.replace(domain, split=_split_to_test(domain, file), no_cameras=no_cameras or domain.no_cameras)
    network = open_domain(domain, labelled=False, training=False)
    test = network.test
    if test is None:
        raise UserError(f"{network.given}: {network.untested or 'has no query and gallery to test on'}")
    features_nD = network_features(model, config, test.images, flip=flip or config.evaluate.flip)
    device = training_device(config.runtime.gpu)
    ranker = partial(reranked_hits if rerank else hit_ranks, device=device)
    measured = measure_test_set(test, features_nD, ranker, camera_normalize=camera_normalize)
    if per_query is not None:
        paths = test.images.store.paths[test.images.rows]  # type: ignore[attr-defined]
        write_per_query(per_query, measured.trials, {"path": paths, "pid": test.pids, "camid": test.camids})
    how = {"flip": flip or config.evaluate.flip, "reranked": rerank, "camera_normalized": camera_normalize}
    return measured.metrics | how


def network_features(model: ReIDNetwork, config: Config, images: View, *, flip: bool) -> np.ndarray:
    """What is matched of every image, float32 [n, c], on this machine's device; see Precision.to_use."""
    settings = config.runtime
    precision = Precision.to_use(settings.precision, training_device(settings.gpu), channels_last=settings.channels_last)
    with bar("features") as progress:
        return extract(
            precision.place(model),  # type: ignore[arg-type]
            images,
            slice(0, len(images)),
            height=config.input.height,
            width=config.input.width,
            batch=config.evaluate.batch_size,
            precision=precision,
            flip=flip,
            progress=lambda done: progress(done, len(images)),
        )


def _split_to_test(domain: DomainConfig, checkpoint: Path) -> int | None:
    """The one random split whose test identities a model that trained on this very set has not seen; None: no such limit."""
    store = ImageStore.open(domain.data)
    if not store.protocol.test_pids:
        return domain.split
    seen = {int(selection.split()[-1]) for content, selection in trained_on(checkpoint) if content == store.content_hash}
    if len(seen) > 1:
        raise UserError(f"{store.shown}: the model was trained on splits {sorted(seen)} of it, which leave nobody to test on")
    if seen and domain.split is not None and domain.split not in seen:
        raise UserError(
            f"{store.shown}: the model was trained on split {min(seen)} of it; it cannot be tested on split {domain.split}"
        )
    return min(seen) if seen else domain.split


def score(
    query: Path,
    gallery: Path,
    *,
    protocol: str | None = None,
    no_cameras: bool = False,
    rerank: bool = False,
    camera_normalize: bool = False,
    per_query: Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """CMC and mAP of anybody's features, by the protocol that the query file carries, or another one.

    no_cameras: take every camera for unknown; the files need no camids.
    camera_normalize: compare features less the mean of their camera's, over its deviation (`compared_by_camera`).
    """
    check_writable(per_query)
    sides = load_npz(query, no_cameras=no_cameras), load_npz(gallery, no_cameras=no_cameras)
    carried, test_pids = load_protocol(query)
    if no_cameras and (protocol or carried) != "single_query":
        raise UserError(f"{query}: the protocol {protocol or carried} goes by cameras; leave --no-cameras out")
    if camera_normalize:
        sides = _by_camera(*sides)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    ranker = partial(reranked_hits if rerank else hit_ranks, device=device)
    measured = measure(*sides, protocol or carried, test_pids, ranker=ranker)
    if per_query is not None:
        images = {"pid": np.concatenate([side.pids for side in sides]), "camid": np.concatenate([side.camids for side in sides])}
        write_per_query(per_query, measured.trials, images)
    return measured.metrics | {"reranked": rerank, "camera_normalized": camera_normalize}


def _by_camera(query: Features, gallery: Features) -> tuple[Features, Features]:
    """Both sides' features by the statistics of both, by camera."""
    if query.features.shape[1] == gallery.features.shape[1]:  # else ranking says what is wrong
        both_ND, camids_N = (np.concatenate([getattr(side, name) for side in (query, gallery)]) for name in ("features", "camids"))
        features = np.split(compared_by_camera(both_ND, camids_N), [len(query)])
        query, gallery = (Features(own, side.pids, side.camids) for own, side in zip(features, (query, gallery), strict=True))
    return query, gallery

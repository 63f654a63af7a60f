"""Searching one's own images: rank lists of query images, and whether two images show one person."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from distreid import __version__
from distreid.actions.evaluate import network_features
from distreid.actions.train import open_packed
from distreid.common.errors import UserError
from distreid.common.files import atomic_write, drop_oldest
from distreid.common.storage import cache_folder
from distreid.common.text import percent, plural
from distreid.config import DomainConfig
from distreid.data import ImageStore
from distreid.data.loader import View
from distreid.data.loose import open_images
from distreid.evaluation import first_ranked
from distreid.labels import make_pseudo_labels
from distreid.labels.settings import label_settings
from distreid.labels.threshold import Threshold, calibrate
from distreid.methods.networks import load_model
from distreid.methods.thumbnails import store_of, thumbnails
from distreid.report.query import Ranked, Search, Shown
from distreid.training.domains import DomainData, decoders, open_domain

KEPT = 500  # images from which on features and clusters are kept in the user's cache
KEPT_BYTES = 2 * 10**9  # of all that is kept: what was not asked for longest goes first
PICTURED = 100  # queries on a page


def query(
    checkpoint: Path,
    image: str,
    other: str | None = None,
    *,
    gallery: str | None = None,
    format: str = "folder",
    pattern: str = "",
    top: int = 20,
    threshold: float | None = None,
    flip: bool = False,
    pictures: bool = False,
) -> Search:
    """Rank a gallery for each query image; or, given two images, compare them.

    Args:
        image: the query; or a folder, each image of which is one.
        other: a second image: the two are compared, and no gallery is looked at.
        gallery: packed file, folder or table; None takes the images that the run adapted to.
        format, pattern: how to read a gallery that is not packed.
        top: images of each rank list.
        threshold: cosine similarity above which two images are taken for one person's; None calibrates one
            on the run's target.
        flip: average the features of each image and its mirror image.
        pictures: also take the pictures that a page shows.

    No identity or camera is looked at: a rank list leaves out the query image itself, known by its bytes, and nothing else.

    Raises:
        UserError: a query or gallery without images, something else than an image, no finished round, ``top`` below 1.
    """
    if top < 1:
        raise UserError(f"--top {top}: must be 1 or more")
    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"--threshold {threshold:g}: a cosine similarity lies between -1 and 1")
    asked = _whole(open_images(image, threads=decoders()))
    answer = None if other is None else _whole(open_images(other, threads=decoders()))
    if answer is not None and (len(asked) > 1 or len(answer) > 1):
        raise UserError(f"{image if len(asked) > 1 else other}: a folder; to compare two images name two image files")
    network = _Network(checkpoint, flip)
    if answer is not None:
        place, searched = "", answer
        left_out_QG = np.zeros((1, 1), bool)
    else:
        place, searched = network.searched(gallery, format, pattern)
        left_out_QG = _copies(asked, searched)
    found, told = network.calibrated() if threshold is None else (None, "The threshold was given by hand.")
    lists = first_ranked(network.features(asked), network.features(searched), left_out_QG, top)
    return Search(
        model=str(network.file),
        gallery=place,
        images=len(searched),
        lists=[
            Ranked(
                _shown(asked, np.array([at]), pictures and at < PICTURED)[0],
                list(zip(_shown(searched, rows, pictures and at < PICTURED), similarity.tolist(), strict=True)),
                [shown.path for shown in _shown(searched, np.flatnonzero(left_out_QG[at]), False)],
            )
            for at, (rows, similarity) in enumerate(lists)
        ],
        threshold=found.similarity if found else threshold,
        told=told,
        calibration=found.as_dict() if found else None,
        pair=answer is not None,
    )


class _Network:
    """A checkpoint's network, and what it makes of images; that of large galleries is kept in the user's cache."""

    def __init__(self, checkpoint: Path, flip: bool) -> None:
        self._model, self._config, self.file = load_model(checkpoint)
        self._flip = flip or self._config.evaluate.flip
        with self.file.open("rb") as stream:
            self._digest = hashlib.file_digest(stream, "sha256").hexdigest()

    def searched(self, gallery: str | None, format: str, pattern: str) -> tuple[str, View]:
        """Where to search, as the user knows it, and its images; None is the run's target."""
        if gallery is not None:
            return gallery, _whole(open_packed(DomainConfig(data=gallery, format=format, pattern=pattern)))
        target = self._target()
        return target.given, target.train

    def _target(self) -> DomainData:
        return open_domain(self._config.target, labelled=False, tested=False)

    def features(self, images: View) -> np.ndarray:
        """float32 [n, c]."""
        return self._kept("features", images, lambda: network_features(self._model, self._config, images, flip=self._flip))

    def calibrated(self) -> tuple[Threshold | None, str]:
        """A threshold from clusters of the run's target, whose size its label settings were made for; and a sentence about it, or
        why there is none."""
        try:
            target = self._target()
            found = calibrate(self.features(target.train), self._clusters(target))
        except UserError as error:
            return None, f"No threshold could be calibrated on the run's target ({error}); --threshold gives one."
        return found, (
            f"A similarity above {found.similarity:.3f} is taken for the same person: of the run's target, {target.name}, "
            f"{percent(found.wrong)} % of the pairs from different clusters lie above it, and {percent(found.found)} % of those "
            f"within its {plural(found.clusters, 'cluster')}; no label was used."
        )

    def _clusters(self, target: DomainData) -> np.ndarray:
        """Pseudo-labels of the target by the run's own settings, int64 [n]."""
        settings = label_settings(self._config.labels, device="auto", dbscan="auto")
        camids = target.camids if settings.camera_keys else None

        def make() -> np.ndarray:
            return make_pseudo_labels(self.features(target.train), settings, camids=camids).labels

        return self._kept(f"clusters {settings}", target.train, make)

    def _kept(self, what: str, images: View, make: Callable[[], np.ndarray]) -> np.ndarray:
        if len(images) < KEPT:
            return make()
        key = repr((what, __version__, self._digest, self._flip, store_of(images).content_hash, images.rows.tobytes()))
        file = cache_folder() / "features" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
        with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or damaged
            kept = np.load(file, allow_pickle=False)
            file.touch()
            return kept
        made = make()
        if made.nbytes < KEPT_BYTES:
            with contextlib.suppress(UserError), atomic_write(file) as stream:
                np.save(stream, made, allow_pickle=False)
            drop_oldest(file.parent, KEPT_BYTES)
        return made


def _whole(store: ImageStore) -> View:
    return View(store, np.arange(len(store)))


def _shown(images: View, index: np.ndarray, pictures: bool) -> list[Shown]:
    if pictures:
        return [Shown(crop.path, crop.camid, crop.pixels_HW3) for crop in thumbnails(images, index)]
    store, rows = store_of(images), images.rows[index]
    return [Shown(str(store.paths[row]), int(store.camids[row])) for row in rows]


def _copies(asked: View, images: View) -> np.ndarray:
    """Which images are which queries, byte for byte: bool [queries, images]."""
    copies_QG = np.zeros((len(asked), len(images)), bool)
    sizes: dict[int, list[tuple[int, memoryview]]] = {}
    for at, content in _contents(asked):
        sizes.setdefault(len(content), []).append((at, content))
    for at, content in _contents(images):
        for number, own in sizes.get(len(content), []):
            copies_QG[number, at] = own == content
    return copies_QG


def _contents(images: View) -> Iterator[tuple[int, memoryview]]:
    store = store_of(images)
    return ((at, store.encoded(row)) for at, row in enumerate(images.rows))

"""Which images a drawn domain consists of: who is seen by which camera, how often, and under which name the image is filed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from distreid.data.readers.msmt17 import CAMERAS, PUBLISHED

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"

# What a random stream is for: the first number of its seed after the seed and the domain.
PERSON, CAMERA, ROUTE, SHOT, EXTRA = range(5)

VALIDATION = 0.0727  # of MSMT17's training images stand in the list of the validation set: 2,373 of 32,621
LISTS = {"train": "list_train.txt", "val": "list_val.txt", "query": "list_query.txt", "gallery": "list_gallery.txt"}


@dataclass(frozen=True)
class Shot:
    """One image to draw; `stream` seeds everything random in it."""

    split: str  # train, query, gallery, distractors or junk; val, where a list tells them apart
    file: str  # below the data set's folder
    identity: int | None  # whose looks; None: nobody is there
    camera: int  # from 1
    stream: tuple[int, ...]
    pid: int = 0  # of MSMT17's lists


def stream_of(seed: int, domain: str, *stream: int) -> np.random.Generator:
    """The random numbers for one purpose, the same whoever draws."""
    return np.random.default_rng((seed, zlib.crc32(domain.encode()), *stream))


def _route(seed: int, domain: str, identity: int, cameras: int) -> list[int]:
    """The cameras that see an identity: most of them, at least two."""
    rng = stream_of(seed, domain, ROUTE, identity)
    count = max(2, int(rng.binomial(cameras, 0.8)))
    return sorted(int(c) + 1 for c in rng.permutation(cameras)[:count])


def plan_shots(seed: int, domain: str, identities: int, cameras: int, images: int) -> Iterator[Shot]:
    """Every image of a domain in Market-1501's layout, in a fixed order: training, query and gallery, distractors, junk."""
    gallery = 0
    for identity in range(1, 2 * identities + 1):
        for camera in _route(seed, domain, identity, cameras):
            for index in range(images):
                split = "train" if identity <= identities else "query" if index == 0 else "gallery"
                folder = {"train": TRAIN, "query": QUERY, "gallery": GALLERY}[split]
                gallery += split == "gallery"
                file = f"{folder}/{identity:04d}_c{camera}s1_{25 * index + 1:06d}_01.jpg"
                yield Shot(split, file, identity, camera, (SHOT, identity, camera, index))
    # Market-1501's gallery is 14% distractors and 19% junk; a third of these distractors are boxes around nobody.
    for extra in range(max(cameras, round(0.15 * gallery))):
        camera = extra % cameras + 1
        stranger = None if extra % 3 == 2 else 2 * identities + 1 + extra
        file = f"{GALLERY}/0000_c{camera}s1_{extra + 1:06d}_01.jpg"
        yield Shot("distractors", file, stranger, camera, (EXTRA, 0, camera, extra))
    for extra in range(max(cameras, round(0.1 * gallery))):
        camera, identity = extra % cameras + 1, identities + 1 + extra % identities
        file = f"{GALLERY}/-1_c{camera}s1_{extra + 1:06d}_01.jpg"
        yield Shot("junk", file, identity, camera, (EXTRA, 1, camera, extra))


@dataclass(frozen=True)
class Size:
    """How many images and identities a data set has; training and test identities are different people."""

    train_identities: int
    train: int
    test_identities: int
    query: int
    gallery: int
    cameras: int

    def part(self, fraction: float) -> Size:
        """So large a part of it, with all of its cameras."""
        return Size(
            train_identities=round(fraction * self.train_identities),
            train=round(fraction * self.train),
            test_identities=round(fraction * self.test_identities),
            query=round(fraction * self.query),
            gallery=round(fraction * self.gallery),
            cameras=self.cameras,
        )


MSMT17 = Size(
    train_identities=PUBLISHED["train"].identities,
    train=PUBLISHED["train"].images,
    test_identities=PUBLISHED["query"].identities,
    query=PUBLISHED["query"].images,
    gallery=PUBLISHED["gallery"].images,
    cameras=CAMERAS,
)


def _share(total: int, parts: int, number: int) -> int:
    """What part `number` of `parts` gets when `total` is dealt out evenly."""
    return (number + 1) * total // parts - number * total // parts


def plan_msmt17(seed: int, domain: str, size: Size) -> Iterator[Shot]:
    """Every image of a domain in MSMT17's layout, in a fixed order: training and validation, query and gallery.

    Images are dealt out evenly over the identities. A test identity has one query in each camera that sees it, hence three or four
    cameras; a training identity has four.
    """
    for person in range(size.train_identities):
        shown = _share(size.train, size.train_identities, person)
        kept_back = round(VALIDATION * shown)  # each identity's last images
        for number, camera, index in _in_turn(seed, domain, person + 1, 4, shown, size.cameras):
            split = "val" if number >= shown - kept_back else "train"
            yield _msmt17_shot("train", split, person, person + 1, camera, index)
    for person in range(size.test_identities):
        queries = _share(size.query, size.test_identities, person)
        shown = queries + _share(size.gallery, size.test_identities, person)
        identity = size.train_identities + person + 1
        for number, camera, index in _in_turn(seed, domain, identity, queries, shown, size.cameras):
            yield _msmt17_shot("test", "query" if number < queries else "gallery", person, identity, camera, index)


def _in_turn(seed: int, domain: str, identity: int, seen_by: int, images: int, cameras: int) -> Iterator[tuple[int, int, int]]:
    """A number, a camera and which of the identity's images in it for each of `images` images: its cameras take them in turn."""
    route = stream_of(seed, domain, ROUTE, identity).permutation(cameras)[:seen_by]
    for number in range(images):
        yield number, int(route[number % seen_by]) + 1, number // seen_by


def _msmt17_shot(folder: str, split: str, person: int, identity: int, camera: int, index: int) -> Shot:
    file = f"{folder}/{person:04d}/{person:04d}_{index:03d}_{camera:02d}_0303morning_{index:04d}_0.jpg"
    return Shot(split, file, identity, camera, (SHOT, identity, camera, index), person)


def msmt17_lists(shots: list[Shot]) -> dict[str, str]:
    """The four lists of MSMT17 that tell its splits apart: file names and contents."""
    lines: dict[str, list[str]] = {split: [] for split in LISTS}
    for shot in shots:
        lines[shot.split].append(f"{shot.file.partition('/')[2]} {shot.pid}\n")
    return {LISTS[split]: "".join(own) for split, own in lines.items() if own}

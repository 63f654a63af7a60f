"""Writes a drawn domain as a folder in Market-1501's layout."""

from __future__ import annotations

import os
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from distreid.common.errors import UserError
from distreid.common.files import check_free, draft_of
from distreid.data.synthetic.camera import Camera, sample_camera
from distreid.data.synthetic.domains import DOMAINS, find_domain
from distreid.data.synthetic.image import draw_image
from distreid.data.synthetic.people import Person, sample_person
from distreid.data.synthetic.scene import Scene, paint_scene

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"

# What a random stream is for: the first number of its seed after the seed and the domain.
_PERSON, _CAMERA, _ROUTE, _SHOT, _EXTRA = range(5)

_CHUNK = 100  # images a worker draws between two reports


@dataclass(frozen=True)
class DrawnSummary:
    """What `draw_domain` wrote; `gallery_images` counts neither distractors nor junk."""

    root: Path
    domain: str
    identities: int  # of training, and as many again of test
    cameras: int
    train_images: int
    query_images: int
    gallery_images: int
    distractors: int
    junk: int

    def __str__(self) -> str:
        """What it holds, in a line."""
        return (
            f"{self.root}: {self.domain}, {self.train_images:,} training images of {self.identities:,} identities, "
            f"{self.query_images:,} queries, {self.gallery_images:,} gallery images, "
            f"{self.distractors:,} distractors, {self.junk:,} junk; {self.cameras} cameras"
        )


@dataclass(frozen=True)
class Shot:
    """One image to draw; `stream` seeds everything random in it."""

    folder: str
    name: str
    identity: int | None  # whose looks; None: nobody is there
    camera: int  # from 1
    stream: tuple[int, ...]
    junk: bool = False


def _rng(seed: int, domain: str, *stream: int) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(domain.encode()), *stream))


@lru_cache(maxsize=64)
def _site(seed: int, domain: str, camera: int) -> tuple[Camera, Scene]:
    place = DOMAINS[domain]
    network, own = _rng(seed, domain, _CAMERA), _rng(seed, domain, _CAMERA, camera)
    kind = place.scenes[(camera - 1) % len(place.scenes)]
    return sample_camera(network, camera, place.look), paint_scene(own, kind, place.season)


@lru_cache(maxsize=1024)
def _person(seed: int, domain: str, identity: int) -> Person:
    return sample_person(_rng(seed, domain, _PERSON, identity), DOMAINS[domain].wardrobe)


def _route(seed: int, domain: str, identity: int, cameras: int) -> list[int]:
    """The cameras that see an identity: most of them, at least two."""
    rng = _rng(seed, domain, _ROUTE, identity)
    count = max(2, int(rng.binomial(cameras, 0.8)))
    return sorted(int(c) + 1 for c in rng.permutation(cameras)[:count])


def plan_shots(seed: int, domain: str, identities: int, cameras: int, images: int) -> Iterator[Shot]:
    """Every image of a domain, in a fixed order: training, query and gallery, distractors, junk."""
    gallery = 0
    for identity in range(1, 2 * identities + 1):
        for camera in _route(seed, domain, identity, cameras):
            for index in range(images):
                folder = TRAIN if identity <= identities else QUERY if index == 0 else GALLERY
                gallery += folder == GALLERY
                name = f"{identity:04d}_c{camera}s1_{25 * index + 1:06d}_01.jpg"
                yield Shot(folder, name, identity, camera, (_SHOT, identity, camera, index))
    # Market-1501's gallery is 14% distractors and 19% junk; a third of these distractors are boxes around nobody.
    for extra in range(max(cameras, round(0.15 * gallery))):
        camera = extra % cameras + 1
        stranger = None if extra % 3 == 2 else 2 * identities + 1 + extra
        name = f"0000_c{camera}s1_{extra + 1:06d}_01.jpg"
        yield Shot(GALLERY, name, stranger, camera, (_EXTRA, 0, camera, extra))
    for extra in range(max(cameras, round(0.1 * gallery))):
        camera, identity = extra % cameras + 1, identities + 1 + extra % identities
        name = f"-1_c{camera}s1_{extra + 1:06d}_01.jpg"
        yield Shot(GALLERY, name, identity, camera, (_EXTRA, 1, camera, extra), junk=True)


def _draw_shots(root: Path, seed: int, domain: str, masks: bool, shots: list[Shot]) -> int:
    for shot in shots:
        camera, scene = _site(seed, domain, shot.camera)
        person = None if shot.identity is None else _person(seed, domain, shot.identity)
        rng = _rng(seed, domain, *shot.stream)
        drawing = draw_image(rng, camera, scene, DOMAINS[domain].wardrobe, person, junk=shot.junk)
        (root / shot.folder / shot.name).write_bytes(drawing.jpeg)
        if masks:
            (root / "masks" / shot.folder / shot.name).with_suffix(".png").write_bytes(drawing.mask_png())
    return len(shots)


def _check(out: Path, identities: int, cameras: int, images: int, seed: int, workers: int | None) -> None:
    for key, value, low, high in (
        ("identities", identities, 1, 4999),
        ("cameras", cameras, 2, 9),
        ("images", images, 2, 9999),
        ("seed", seed, 0, 2**63 - 1),
        ("workers", 1 if workers is None else workers, 1, 1024),
    ):
        if not low <= value <= high:
            raise UserError(f"{key} is {value}: give a number from {low} to {high}")
    check_free(out)


def _draw_all(
    root: Path,
    shots: list[Shot],
    *,
    domain: str,
    seed: int,
    masks: bool,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    chunks = [shots[i : i + _CHUNK] for i in range(0, len(shots), _CHUNK)]
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, len(shots))

    if workers == 1:
        for chunk in chunks:
            report(_draw_shots(root, seed, domain, masks, chunk))
        return
    # Spawned, not forked: the caller may hold threads (torch, Ray) that do not survive a fork.
    pool = ProcessPoolExecutor(min(workers, len(chunks)), mp_context=get_context("spawn"))
    try:
        futures = [pool.submit(_draw_shots, root, seed, domain, masks, chunk) for chunk in chunks]
        for future in futures:
            report(future.result())
    finally:
        pool.shutdown(cancel_futures=True)


def draw_domain(
    out: Path,
    *,
    domain: str = "day",
    identities: int = 64,
    cameras: int = 4,
    images: int = 8,
    seed: int = 0,
    masks: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DrawnSummary:
    """Draw pedestrians of one domain into `out`: JPEG, 128 pixels high and 64 wide, in Market-1501's layout and names.

    `identities` people are drawn for training and as many others for test; each is seen by two to `cameras` cameras and
    `images` times by each of these. The first image of a test identity in a camera is a query, the others are gallery.
    Distractors (0000: strangers, or nobody) and junk (-1: bad boxes around test identities) join the gallery. With `masks`
    the true foreground masks (PNG, 255 on the visible person) are written to masks/<folder>/<name>.png.

    The same arguments give the same bytes whatever `workers` is. None takes a process for every 1500 images, at most one a
    core; where more than one is used, a script must guard its entry with `if __name__ == "__main__"`. `out` appears when all
    is drawn, or not at all.

    UserError: an unknown domain, a number out of range, `out` not empty, or a folder that cannot be written.
    """
    out = Path(out)
    domain = find_domain(domain).name
    _check(out, identities, cameras, images, seed, workers)
    shots = list(plan_shots(seed, domain, identities, cameras, images))
    if workers is None:
        workers = min(os.cpu_count() or 1, 1 + len(shots) // 1500)
    # No fsync a file: the folder's renaming says that all was written, and it can be drawn again.
    draft = draft_of(out)
    try:
        for folder in (TRAIN, QUERY, GALLERY):
            (draft / folder).mkdir(parents=True)
            if masks:
                (draft / "masks" / folder).mkdir(parents=True)
        _draw_all(draft, shots, domain=domain, seed=seed, masks=masks, workers=workers, progress=progress)
        draft.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    counts = Counter("junk" if s.junk else "distractors" if s.stream[0] == _EXTRA else s.folder for s in shots)
    return DrawnSummary(
        root=out,
        domain=domain,
        identities=identities,
        cameras=cameras,
        train_images=counts[TRAIN],
        query_images=counts[QUERY],
        gallery_images=counts[GALLERY],
        distractors=counts["distractors"],
        junk=counts["junk"],
    )

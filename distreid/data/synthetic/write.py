"""Writes a drawn domain as a folder in the layout of Market-1501, or of MSMT17 at its size."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

from distreid.common.errors import UserError
from distreid.common.files import check_free, draft_of
from distreid.data.synthetic.camera import Camera, sample_camera
from distreid.data.synthetic.domains import DOMAINS, find_domain
from distreid.data.synthetic.image import draw_image
from distreid.data.synthetic.people import Person, sample_person
from distreid.data.synthetic.scene import Scene, paint_scene
from distreid.data.synthetic.shots import CAMERA, MSMT17, PERSON, Shot, msmt17_lists, plan_msmt17, plan_shots, stream_of

_CHUNK = 100  # images a worker draws between two reports


@dataclass(frozen=True)
class DrawnSummary:
    """What `draw_domain` wrote; `gallery_images` counts neither distractors nor junk."""

    root: Path
    domain: str
    identities: int  # of training
    test_identities: int
    cameras: int
    train_images: int
    query_images: int
    gallery_images: int
    distractors: int
    junk: int

    def __str__(self) -> str:
        """What it holds, in a line."""
        # In Market-1501's layout as many are tested on as are trained on.
        others = "" if self.test_identities == self.identities else f" of {self.test_identities:,} others"
        return (
            f"{self.root}: {self.domain}, {self.train_images:,} training images of {self.identities:,} identities, "
            f"{self.query_images:,} queries, {self.gallery_images:,} gallery images{others}, "
            f"{self.distractors:,} distractors, {self.junk:,} junk; {self.cameras} cameras"
        )


@lru_cache(maxsize=64)
def _site(seed: int, domain: str, camera: int) -> tuple[Camera, Scene]:
    place = DOMAINS[domain]
    network, own = stream_of(seed, domain, CAMERA), stream_of(seed, domain, CAMERA, camera)
    kind = place.scenes[(camera - 1) % len(place.scenes)]
    return sample_camera(network, camera, place.look), paint_scene(own, kind, place.season)


@lru_cache(maxsize=1024)
def _person(seed: int, domain: str, identity: int) -> Person:
    return sample_person(stream_of(seed, domain, PERSON, identity), DOMAINS[domain].wardrobe)


def _draw_shots(root: Path, seed: int, domain: str, masks: bool, shots: list[Shot]) -> int:
    for shot in shots:
        camera, scene = _site(seed, domain, shot.camera)
        person = None if shot.identity is None else _person(seed, domain, shot.identity)
        rng = stream_of(seed, domain, *shot.stream)
        drawing = draw_image(rng, camera, scene, DOMAINS[domain].wardrobe, person, junk=shot.split == "junk")
        (root / shot.file).write_bytes(drawing.jpeg)
        if masks:
            (root / "masks" / shot.file).with_suffix(".png").write_bytes(drawing.mask_png())
    return len(shots)


def _check(out: Path, **numbers: tuple[float, float, float]) -> None:
    """Each number beside the least and the most that it may be."""
    for key, (value, low, high) in numbers.items():
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
    _check(
        out,
        identities=(identities, 1, 4999),
        cameras=(cameras, 2, 9),
        images=(images, 2, 9999),
        seed=(seed, 0, 2**63 - 1),
        workers=(1 if workers is None else workers, 1, 1024),
    )
    shots = list(plan_shots(seed, domain, identities, cameras, images))
    _write(out, shots, {}, domain=domain, seed=seed, masks=masks, workers=workers, progress=progress)
    return _summary(out, domain, identities, identities, cameras, shots)


def draw_msmt17(
    out: Path,
    *,
    domain: str = "day",
    fraction: float = 1.0,
    seed: int = 0,
    masks: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DrawnSummary:
    """Draw pedestrians into `out` in MSMT17's layout (folders train and test, four lists) and at its size: 32,621 training images
    of 1,041 identities, 11,659 queries and 82,161 gallery images of 3,060 others, 15 cameras; no distractors, no junk.

    `fraction`: draw so many of the images and identities, at least 1/500. Image size, `masks`, `workers` and what is the same for
    the same arguments: as of `draw_domain`.

    UserError: as of `draw_domain`.
    """
    out = Path(out)
    domain = find_domain(domain).name
    _check(
        out,
        fraction=(fraction, 0.002, 1.0),
        seed=(seed, 0, 2**63 - 1),
        workers=(1 if workers is None else workers, 1, 1024),
    )
    size = MSMT17.part(fraction)
    shots = list(plan_msmt17(seed, domain, size))
    _write(out, shots, msmt17_lists(shots), domain=domain, seed=seed, masks=masks, workers=workers, progress=progress)
    return _summary(out, domain, size.train_identities, size.test_identities, size.cameras, shots)


def _write(
    out: Path,
    shots: list[Shot],
    lists: Mapping[str, str],
    *,
    domain: str,
    seed: int,
    masks: bool,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Draws all shots and writes the lists, file names and contents, beside them."""
    if workers is None:
        workers = min(os.cpu_count() or 1, 1 + len(shots) // 1500)
    # No fsync a file: the folder's renaming says that all was written, and it can be drawn again.
    draft = draft_of(out)
    try:
        for folder in sorted({Path(shot.file).parent for shot in shots}):
            (draft / folder).mkdir(parents=True)
            if masks:
                (draft / "masks" / folder).mkdir(parents=True)
        _draw_all(draft, shots, domain=domain, seed=seed, masks=masks, workers=workers, progress=progress)
        for name, text in lists.items():
            (draft / name).write_text(text, encoding="utf-8")
        draft.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _summary(out: Path, domain: str, identities: int, test_identities: int, cameras: int, shots: list[Shot]) -> DrawnSummary:
    counts = Counter(shot.split for shot in shots)
    return DrawnSummary(
        root=out,
        domain=domain,
        identities=identities,
        test_identities=test_identities,
        cameras=cameras,
        train_images=counts["train"] + counts["val"],
        query_images=counts["query"],
        gallery_images=counts["gallery"],
        distractors=counts["distractors"],
        junk=counts["junk"],
    )

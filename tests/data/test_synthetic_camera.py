"""Cameras and domains: what they change, and that the identity survives it."""

from __future__ import annotations

import io
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distreid.data.synthetic import DOMAINS, draw_domain
from distreid.data.synthetic.camera import Camera, colour_matrix, expose, record, sample_camera
from distreid.data.synthetic.image import draw_image
from distreid.data.synthetic.people import Cloth, Pattern, sample_person
from distreid.data.synthetic.scene import HEIGHT, SCENES, WIDTH, paint_scene

CLEAR = Camera(
    exposure=1.0,
    warmth=0.0,
    tint=0.0,
    saturation=1.0,
    contrast=1.0,
    gamma=1.0,
    haze=0.0,
    ambient=0.6,
    lamp=0.0,
    emission=0.0,
    noise=0.0,
    blur=0.0,
    resolution=2.0,
    quality=95.0,
    elevation=0.2,
    flare=0.0,
    flakes=0.0,
    light_3=np.array([0.0, 0.0, 1.0]),
    walk=0.0,
)
RNG = np.random.default_rng


def grey(level: float) -> np.ndarray:
    return np.full((128, 64, 3), level, np.float32)


def decode(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)), np.float32) / 255.0


@pytest.mark.parametrize("domain", sorted(DOMAINS))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cameras_stay_in_the_ranges_of_their_domain_and_spread_over_them(domain: str, seed: int) -> None:
    look = DOMAINS[domain].look
    cameras = [sample_camera(RNG(seed), k, look) for k in range(1, 5)]
    for field in fields(look):
        drawn, values = getattr(look, field.name), [getattr(camera, field.name) for camera in cameras]
        if isinstance(drawn, float):
            assert set(values) == {drawn}
        else:
            assert drawn[0] <= min(values) and max(values) <= drawn[1]
            assert max(values) - min(values) >= 0.5 * (drawn[1] - drawn[0])


def test_a_clear_camera_changes_nothing_but_the_light() -> None:
    image = RNG(0).uniform(0.1, 0.8, (128, 64, 3)).astype(np.float32)
    seen = expose(CLEAR, RNG(1), image, np.zeros_like(image))
    gain = seen / image
    assert 0.9 <= gain.mean() <= 1.1 and np.allclose(gain, gain.mean(), rtol=1e-4)
    assert np.abs(decode(record(CLEAR, RNG(2), grey(0.4))) - 0.4).max() < 0.01


def test_each_property_does_what_it_says() -> None:
    def mean(image: np.ndarray, **changes: float) -> np.ndarray:
        out: np.ndarray = expose(replace(CLEAR, **changes), RNG(1), image, grey(0.5)).mean((0, 1))  # type: ignore[arg-type]
        return out

    base = mean(grey(0.5))
    warm = mean(grey(0.5), warmth=0.2)
    assert warm[0] > base[0] and warm[2] < base[2]
    assert mean(grey(0.5), tint=0.1)[1] > base[1]
    assert (mean(grey(0.5), exposure=0.5) < base).all() and (mean(grey(0.5), gamma=0.7) > base).all()
    assert (mean(grey(0.5), emission=0.5) > base).all() and (mean(grey(0.5), lamp=0.3) > base).all()
    red = grey(0.2)
    red[:, :, 0] = 0.8
    faded = mean(red, saturation=0.0)
    assert np.ptp(faded) < 1e-5 < np.ptp(mean(red))
    assert np.allclose(colour_matrix(replace(CLEAR, saturation=0.3)).sum(0), 1.0)  # grey stays grey


def test_lens_and_sensor_lose_detail() -> None:
    sharp = grey(0.3)
    sharp[::2] = 0.7

    def contrast(**changes: float) -> float:
        return float(decode(record(replace(CLEAR, **changes), RNG(0), sharp)).std(0).mean())  # type: ignore[arg-type]

    assert contrast(blur=1.0) < 0.5 * contrast() and contrast(resolution=0.5) < 0.5 * contrast()
    noisy = decode(record(replace(CLEAR, noise=0.05), RNG(0), grey(0.5)))
    assert 0.02 < noisy.std() < 0.08


@pytest.mark.parametrize("kind", sorted(SCENES))
@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_scenes_are_pictures_and_never_twice_the_same(kind: str, domain: str) -> None:
    season = DOMAINS[domain].season
    one, two = paint_scene(RNG(0), kind, season), paint_scene(RNG(1), kind, season)
    assert one.albedo_HW3.shape == one.emission_HW3.shape == (HEIGHT, WIDTH, 3)
    assert one.albedo_HW3.min() >= 0 and one.albedo_HW3.max() <= 1 and one.emission_HW3.max() > 0
    assert one.albedo_HW3.std() > 0.05 and not np.allclose(one.albedo_HW3, two.albedo_HW3, atol=0.1)


def test_every_scene_of_a_domain_exists() -> None:
    for domain in DOMAINS.values():
        assert set(domain.scenes) <= set(SCENES) and len(domain.scenes) >= 4


def signatures(root: Path, folder: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean colours of the visible person in eight bands from head to foot: features [n, 24], pids, camids."""
    features, pids, camids = [], [], []
    for path in sorted((root / folder).glob("[0-9]*.jpg")):
        mask = np.asarray(Image.open(root / "masks" / folder / f"{path.stem}.png")) > 0
        pixels = np.asarray(Image.open(path), np.float32)
        bands = [pixels[r : r + 16][mask[r : r + 16]] for r in range(0, 128, 16)]
        features.append(np.concatenate([b.mean(0) if len(b) else np.zeros(3) for b in bands]))
        pids.append(int(path.name[:4]))
        camids.append(int(path.name[6]))
    return np.array(features), np.array(pids), np.array(camids)


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_clothes_tell_the_identity_across_cameras(domain: str, tmp_path: Path) -> None:
    """Colours alone, each camera's mean taken off, find the right person first far more often than chance (1 in 13)."""
    root = draw_domain(tmp_path / "out", domain=domain, identities=12, cameras=3, images=2, masks=True, workers=1).root
    q, q_pids, q_cams = signatures(root, "query")
    g, g_pids, g_cams = signatures(root, "bounding_box_test")
    for cam in (1, 2, 3):
        q[q_cams == cam] -= g[g_cams == cam].mean(0)
        g[g_cams == cam] -= g[g_cams == cam].mean(0)
    distance = np.linalg.norm(q[:, None] - g[None], axis=2)
    distance[(q_pids[:, None] == g_pids) & (q_cams[:, None] == g_cams)] = np.inf
    assert (g_pids[distance.argmin(1)] == q_pids).mean() > 0.5


@pytest.mark.parametrize("seed", range(12))
def test_a_mask_holds_what_a_persons_colours_change(seed: int) -> None:
    """Two people of one shape, one black, one white, drawn with the same random numbers: the images differ in the mask alone."""
    who = sample_person(RNG(seed), DOMAINS["day"].wardrobe)
    scene = paint_scene(RNG(0), "plaza", DOMAINS["day"].season)
    cloth = {level: Cloth(Pattern.PLAIN, (level,) * 3, (level,) * 3, 1.0, 0.0) for level in (0.0, 1.0)}
    black, white = (
        draw_image(
            RNG((seed, 1)),
            CLEAR,
            scene,
            DOMAINS["day"].wardrobe,
            replace(
                who,
                upper=cloth[v],
                lower=cloth[v],
                skin=(v,) * 3,
                hair=(v,) * 3,
                shoes=(v,) * 3,
                bag_colour=(v,) * 3,
                hat_colour=(v,) * 3,
            ),
        )
        for v in (0.0, 1.0)
    )
    assert np.array_equal(black.visible_HW, white.visible_HW)
    mask = np.asarray(Image.open(io.BytesIO(black.mask_png()))) > 0
    changed = np.abs(decode(black.jpeg) - decode(white.jpeg)).mean(2)
    assert np.allclose(mask, black.visible_HW >= 0.5) and mask.mean() > 0.05
    assert (changed[mask] > 0.2).mean() > 0.98
    assert (changed[~mask] > 0.2).mean() < 0.06 and changed[~mask].mean() < 0.04  # half covered pixels, JPEG


def test_night_is_darker_than_day_and_snow_brightens_the_ground(tmp_path: Path) -> None:
    def ground(domain: str) -> float:
        root = draw_domain(tmp_path / domain, domain=domain, identities=4, cameras=5, images=2, workers=1).root
        return float(np.mean([np.asarray(Image.open(p))[-20:, :8].mean() for p in (root / "query").iterdir()]))

    day, night, winter = (ground(name) for name in ("day", "night", "winter"))
    assert night < 0.8 * day < day < winter

"""One detection box: a person in a pose before a window of a camera's scene, lit, occluded and recorded."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from distreid.data.synthetic.camera import Camera, azimuth, expose, record
from distreid.data.synthetic.figure import build_materials, build_parts, sample_pose
from distreid.data.synthetic.people import COLOURS_EVEN, Person, Wardrobe, dye, sample_person
from distreid.data.synthetic.render import render, view_matrix
from distreid.data.synthetic.scene import HEIGHT as SCENE_HEIGHT
from distreid.data.synthetic.scene import WIDTH as SCENE_WIDTH
from distreid.data.synthetic.scene import Scene

HEIGHT, WIDTH = 128, 64


@dataclass(frozen=True)
class Box:
    """Where the figure stands in the picture: pixels, with the detector's error in them."""

    scale: float  # pixels per body height
    left: float
    bottom: float


def good_box(rng: np.random.Generator) -> Box:
    """A detector's usual box: the whole figure, a little too wide, too high or off the middle; sometimes it cuts the feet."""
    cut = float(rng.uniform(4, 18)) if rng.random() < 0.08 else 0.0
    scale = float(rng.uniform(108, 120)) + 0.8 * cut
    return Box(scale, WIDTH / 2 + float(rng.normal(0.0, 2.2)), HEIGHT - 4 + float(rng.normal(0.0, 1.8)) + cut)


def bad_box(rng: np.random.Generator) -> Box:
    """A junk box: half the figure at most."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    if rng.random() < 0.5:  # beside the figure
        return Box(
            float(rng.uniform(100, 150)), WIDTH / 2 + side * float(rng.uniform(22, 38)), HEIGHT + float(rng.uniform(-10, 30))
        )
    return Box(float(rng.uniform(190, 280)), WIDTH / 2 + float(rng.normal(0, 8)), HEIGHT + float(rng.uniform(0, 150)))


@dataclass(frozen=True)
class Drawing:
    jpeg: bytes
    visible_HW: np.ndarray  # float32 coverage of the person by no occluder, [0, 1]

    def mask_png(self) -> bytes:
        """The foreground mask, 255 where at least half of a pixel is the person."""
        out = io.BytesIO()
        Image.fromarray(np.where(self.visible_HW >= 0.5, 255, 0).astype(np.uint8)).save(out, "PNG")
        return out.getvalue()


def _window(rng: np.random.Generator, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """A random window of the panorama at the picture's size: albedo and emission, [h, w, 3]."""
    zoom = float(rng.uniform(0.85, 1.25))
    high, wide = HEIGHT * zoom, WIDTH * zoom
    # The feet stand on the ground, and mostly some of what is behind it shows.
    top = float(rng.uniform(max(0.0, scene.horizon + 22 - high), min(SCENE_HEIGHT - high, scene.horizon + 8.0)))
    left = float(rng.uniform(0, SCENE_WIDTH - wide))
    rows = (top + (np.arange(HEIGHT) + 0.5) * zoom).astype(np.intp)
    cols = (left + (np.arange(WIDTH) + 0.5) * zoom).astype(np.intp)
    grid = np.ix_(rows, cols)
    return scene.albedo_HW3[grid], scene.emission_HW3[grid]


def _paste(picture_HW3: np.ndarray, layer_HW4: np.ndarray) -> None:
    picture_HW3 *= 1.0 - layer_HW4[:, :, 3:]
    picture_HW3 += layer_HW4[:, :, :3]


def _figure(rng: np.random.Generator, camera: Camera, person: Person, box: Box) -> np.ndarray:
    return render(
        build_parts(person, sample_pose(rng)),
        build_materials(person),
        view_matrix(azimuth(camera, rng), camera.elevation + float(rng.normal(0, 0.04)), float(rng.normal(0.0, 0.03))),
        size=(HEIGHT, WIDTH),
        scale=box.scale,
        left=box.left,
        bottom=box.bottom,
        light_3=camera.light_3,
        ambient=camera.ambient,
        fold=float(rng.uniform(0, 2 * math.pi)),
    )


def _shadow(albedo_HW3: np.ndarray, camera: Camera, box: Box) -> None:
    """The soft shadow at the feet."""
    rows, cols = np.arange(HEIGHT)[:, None], np.arange(WIDTH)[None, :]
    x = box.left - 8.0 * float(camera.light_3[0])
    fall = np.exp(-(((cols - x) / (0.17 * box.scale)) ** 2) - ((rows - box.bottom + 2) / (0.045 * box.scale)) ** 2)
    albedo_HW3 *= (1.0 - 0.5 * (1.0 - 0.5 * camera.ambient) * fall).astype(np.float32)[:, :, None]


def _occluder(rng: np.random.Generator, camera: Camera, wardrobe: Wardrobe) -> np.ndarray:
    """Something in front: a post, a wall or a bonnet below, or a passer-by at the edge; [h, w, 4]."""
    kind = rng.random()
    if kind < 0.3:
        side = -4.0 if rng.random() < 0.5 else WIDTH + 4.0
        box = Box(float(rng.uniform(112, 135)), side + float(rng.normal(0, 4)), HEIGHT + float(rng.uniform(0, 12)))
        return _figure(rng, camera, sample_person(rng, wardrobe), box)
    layer = np.zeros((HEIGHT, WIDTH, 4), np.float32)
    colour = (*dye(rng, COLOURS_EVEN), 1.0) if kind < 0.5 else (0.36, 0.36, 0.37, 1.0)
    if kind < 0.6:
        left, wide = int(rng.integers(0, WIDTH - 8)), int(rng.integers(4, 10))
        layer[:, left : left + wide] = colour
    else:
        layer[HEIGHT - int(rng.integers(14, 42)) :] = colour
    layer[:, :, :3] *= np.linspace(1.05, 0.8, HEIGHT, dtype=np.float32)[:, None, None]
    return layer


def draw_image(
    rng: np.random.Generator, camera: Camera, scene: Scene, wardrobe: Wardrobe, person: Person | None, *, junk: bool = False
) -> Drawing:
    """One image of `person` (None: the detector saw someone where nobody was) as JPEG bytes with its true mask."""
    albedo, emission = _window(rng, scene)
    if rng.random() < 0.15:  # somebody else, farther away
        far = Box(float(rng.uniform(40, 75)), float(rng.uniform(0, WIDTH)), HEIGHT * float(rng.uniform(0.55, 0.85)))
        layer = _figure(rng, camera, sample_person(rng, wardrobe), far)
        _paste(albedo, layer)
        emission *= 1.0 - layer[:, :, 3:]
    visible = np.zeros((HEIGHT, WIDTH), np.float32)
    if person is not None:
        box = bad_box(rng) if junk else good_box(rng)
        _shadow(albedo, camera, box)
        layer = _figure(rng, camera, person, box)
        _paste(albedo, layer)
        emission *= 1.0 - layer[:, :, 3:]
        visible[:] = np.clip(layer[:, :, 3], 0.0, 1.0)
    if rng.random() < 0.10:
        layer = _occluder(rng, camera, wardrobe)
        _paste(albedo, layer)
        emission *= 1.0 - layer[:, :, 3:]
        visible *= 1.0 - layer[:, :, 3]
    return Drawing(record(camera, rng, expose(camera, rng, albedo, emission)), visible)

"""What a camera makes of light: where it hangs, what lights its place, and what its lens, sensor and encoder do."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, fields

import numpy as np
from PIL import Image, ImageFilter

from distreid.data.synthetic.people import RGB

Range = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """The ranges from which a domain's cameras draw their properties. All light is in display values, 1 is white."""

    exposure: Range
    warmth: Range  # colour of the light: red gain up and blue gain down by this share
    tint: Range  # green gain of the white balance, as a share
    saturation: Range
    contrast: Range
    gamma: Range
    haze: Range  # light added everywhere
    ambient: Range  # share of light without direction
    lamp: Range  # strength of a pool of light somewhere in the picture
    emission: Range  # how bright windows, signs and headlights are
    noise: Range  # standard deviation
    blur: Range  # radius in pixels
    resolution: Range  # share of the output resolution that the sensor resolves
    quality: Range  # of JPEG
    elevation: Range  # radians that the camera looks down
    flare: float  # share of images with a headlight in them
    flakes: float  # share of images with falling snow


@dataclass(frozen=True)
class Camera:
    exposure: float
    warmth: float
    tint: float
    saturation: float
    contrast: float
    gamma: float
    haze: float
    ambient: float
    lamp: float
    emission: float
    noise: float
    blur: float
    resolution: float
    quality: float
    elevation: float
    flare: float
    flakes: float
    light_3: np.ndarray  # unit vector towards the light, camera frame
    walk: float  # the azimuth at which most people pass, radians


def sample_camera(network: np.random.Generator, index: int, look: Look) -> Camera:
    """Camera `index` of a network; `network` starts alike for all its cameras.

    Each property takes the golden section's steps through its range, so that a few cameras already differ as much as the
    domain lets them. Where it starts is fixed but for a nudge by the network's seed: with free starts, what one seed's
    cameras cost in accuracy differed from another's by 20 points of mAP.
    """
    ranges: dict[str, Range | float] = {field.name: getattr(look, field.name) for field in fields(look)}
    ranges |= {"light_x": (-0.8, 0.8), "light_y": (0.3, 0.9), "light_z": (0.5, 0.9), "walk": (-1.2, 1.2)}
    values: dict[str, float] = {}
    for number, (name, value) in enumerate(ranges.items()):
        low, high = (value, value) if isinstance(value, float) else value
        start = number * math.sqrt(2) + 0.15 * network.random()
        step = (1 if number % 2 else -1) * index * (math.sqrt(5) - 1) / 2
        values[name] = low + (high - low) * ((start + step) % 1.0)
    light = np.array([values.pop(f"light_{axis}") for axis in "xyz"])
    return Camera(**values, light_3=light / np.linalg.norm(light))


def colour_matrix(camera: Camera) -> np.ndarray:
    """Saturation, then the light's colour and the white balance: [3, 3] float32 for row vectors."""
    luma = np.array([0.30, 0.59, 0.11])
    saturate = camera.saturation * np.eye(3) + (1.0 - camera.saturation) * luma[:, None]
    gains = np.array([1.0 + camera.warmth, 1.0 + camera.tint, 1.0 - camera.warmth])
    return (saturate * gains).astype(np.float32)


def lamp_pool(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A soft pool of lamp light, [h, w, 1] float32 in [0, 1]."""
    y, x = rng.uniform(-0.2, 0.9) * height, rng.uniform(-0.3, 1.3) * width
    rows = np.exp(-(((np.arange(height) - y) / (0.6 * height)) ** 2))
    cols = np.exp(-(((np.arange(width) - x) / (0.9 * width)) ** 2))
    return np.outer(rows, cols).astype(np.float32)[:, :, None]


def headlight(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One or two headlights with their glow, [h, w, 3] float32, to be added."""
    glow = np.zeros((height, width), np.float32)
    y, x = rng.uniform(0.25, 0.85) * height, rng.choice([rng.uniform(-4, 10), rng.uniform(width - 10, width + 4)])
    rows, cols = np.arange(height)[:, None], np.arange(width)[None, :]
    for dx in (0.0, 9.0):
        square = (rows - y) ** 2 + (cols - x - dx) ** 2
        glow += np.exp(-square / 10.0) + 0.35 * np.exp(-square / 260.0)
    colour: RGB = (1.0, 0.95, 0.82)
    return glow[:, :, None] * np.array(colour, np.float32)


def snowfall(rng: np.random.Generator, picture: Image.Image) -> None:
    """Falling flakes, drawn in place."""
    for x, y in rng.uniform((0, 0), picture.size, (28, 2)).astype(int):
        picture.putpixel((int(x), int(y)), (238, 242, 248))


def expose(camera: Camera, rng: np.random.Generator, albedo_HW3: np.ndarray, emission_HW3: np.ndarray) -> np.ndarray:
    """What the sensor sees of a lit picture, before noise: [h, w, 3] float32 in [0, 1]."""
    height, width, _ = albedo_HW3.shape
    light = camera.exposure * float(rng.uniform(0.9, 1.1))
    illumination = light + camera.lamp * lamp_pool(rng, height, width) if camera.lamp > 0 else light
    picture = (albedo_HW3 * illumination) @ colour_matrix(camera)
    if camera.emission > 0:
        picture += camera.emission * emission_HW3
    if camera.flare > 0 and rng.random() < camera.flare:
        picture += headlight(rng, height, width)
    picture = 0.5 + camera.contrast * (picture - 0.5) + camera.haze
    return np.clip(picture, 0.0, 1.0) ** camera.gamma


def record(camera: Camera, rng: np.random.Generator, picture_HW3: np.ndarray) -> bytes:
    """Lens, sensor and encoder: the bytes of a JPEG file."""
    height, width, _ = picture_HW3.shape
    noise = rng.standard_normal((height, width, 3), np.float32) * (camera.noise * float(rng.uniform(0.7, 1.3)))
    image = Image.fromarray((np.clip(picture_HW3 + noise, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
    if camera.flakes > 0 and rng.random() < camera.flakes:
        snowfall(rng, image)
    share = min(1.0, camera.resolution * float(rng.uniform(0.85, 1.15)))
    if share < 0.97:
        small = (max(8, round(width * share)), max(16, round(height * share)))
        image = image.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BICUBIC)
    blur = camera.blur * float(rng.uniform(0.7, 1.3))
    if blur > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=round(camera.quality))
    return out.getvalue()


def azimuth(camera: Camera, rng: np.random.Generator) -> float:
    """The direction from which this camera sees someone: people pass it both ways."""
    return camera.walk + (math.pi if rng.random() < 0.5 else 0.0) + float(rng.normal(0.0, 0.45))

"""What stands behind the people of one camera: a wide painted picture of which every image sees another window.

A scene has two layers: what reflects light (albedo) and what gives it (emission: windows, lamps, signs, headlights).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from distreid.data.synthetic.people import RGB

WIDTH, HEIGHT = 512, 216  # pixels of a panorama; people stand about 120 pixels tall in it


@dataclass(frozen=True)
class Season:
    """Colours of what grows and lies about."""

    sky: RGB
    grass: RGB
    leaves: RGB | None  # None: bare branches
    snow: bool


@dataclass(frozen=True)
class Scene:
    albedo_HW3: np.ndarray  # float32 in [0, 1]
    emission_HW3: np.ndarray
    horizon: int  # row where the ground begins


class Painter:
    """Two canvases of one panorama and the random numbers that place things on them."""

    def __init__(self, rng: np.random.Generator, season: Season, horizon: int) -> None:
        self.rng, self.season, self.horizon = rng, season, horizon
        self.picture = Image.new("RGB", (WIDTH, HEIGHT))
        self.lights = Image.new("RGB", (WIDTH, HEIGHT))
        self.draw, self.glow = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.lights)

    def tone(self, colour: RGB, spread: float = 0.06) -> tuple[int, int, int]:
        """A colour a little lighter or darker, as PIL wants it."""
        gain = 1.0 + self.rng.uniform(-spread, spread)
        return tuple(int(255 * min(max(c * gain, 0.0), 1.0)) for c in colour)  # type: ignore[return-value]

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def choice(self, colours: tuple[RGB, ...]) -> RGB:
        return colours[int(self.rng.integers(len(colours)))]


WALLS: tuple[RGB, ...] = ((0.80, 0.76, 0.68), (0.62, 0.58, 0.54), (0.72, 0.52, 0.42), (0.55, 0.62, 0.66), (0.86, 0.84, 0.80))
PAINTS: tuple[RGB, ...] = (
    (0.75, 0.12, 0.12),
    (0.85, 0.85, 0.86),
    (0.12, 0.13, 0.15),
    (0.18, 0.28, 0.55),
    (0.55, 0.57, 0.60),
    (0.75, 0.62, 0.2),
)
LAMPS: tuple[RGB, ...] = ((1.0, 0.82, 0.5), (1.0, 0.93, 0.8), (0.85, 0.95, 1.0))


def steps(start: float, stop: float, step: float) -> list[float]:
    return [float(x) for x in np.arange(start, stop, step)]


def _ground(p: Painter, colour: RGB) -> None:
    """Ground from the horizon down, nearer rows lighter; snow covers most of it in winter."""
    base: RGB = (0.86, 0.89, 0.93) if p.season.snow else colour
    for row in range(p.horizon, HEIGHT):
        p.draw.line((0, row, WIDTH, row), fill=p.tone(tuple(c * (0.82 + 0.18 * row / HEIGHT) for c in base), 0.015))  # type: ignore[arg-type]
    if p.season.snow:  # trodden paths
        for _ in range(9):
            x, y = p.between(0, WIDTH), p.between(p.horizon + 8, HEIGHT)
            p.draw.ellipse((x - 90, y - 5, x + 90, y + 6), fill=p.tone((0.66, 0.67, 0.70)))


def _tiles(p: Painter, colour: RGB) -> None:
    row, step = float(p.horizon), 5.0
    while row < HEIGHT and not p.season.snow:
        p.draw.line((0, row, WIDTH, row), fill=p.tone(colour))
        row, step = row + step, step * 1.22
    for x in range(-WIDTH, 2 * WIDTH, 46):
        if not p.season.snow:
            p.draw.line((WIDTH / 2 + (x - WIDTH / 2) * 0.45, p.horizon, x, HEIGHT), fill=p.tone(colour))


def _facade(p: Painter) -> None:
    x = -p.between(0, 60)
    while x < WIDTH:
        wide = p.between(90, 190)
        wall = p.choice(WALLS)
        p.draw.rectangle((x, 0, x + wide, p.horizon), fill=p.tone(wall))
        glass = (0.25, 0.32, 0.38)
        shop = p.rng.random() < 0.6
        top = p.horizon - 34 if shop else p.horizon - 8
        for wx in steps(x + 8, x + wide - 14, 22):
            for wy in steps(4, top - 22, 30):
                box = (wx, wy, wx + 12, wy + 19)
                p.draw.rectangle(box, fill=p.tone(glass, 0.3), outline=p.tone((0.9, 0.9, 0.88)))
                if p.rng.random() < 0.35:
                    p.glow.rectangle(box, fill=p.tone(p.choice(LAMPS), 0.3))
        if shop:
            box = (x + 5, p.horizon - 30, x + wide - 8, p.horizon - 3)
            p.draw.rectangle(box, fill=p.tone(glass, 0.4))
            p.glow.rectangle(box, fill=p.tone(p.choice(LAMPS), 0.3))
            sign = p.choice(PAINTS)
            p.draw.rectangle((x + 3, p.horizon - 38, x + wide - 6, p.horizon - 30), fill=p.tone(sign))
            p.glow.rectangle((x + 3, p.horizon - 38, x + wide - 6, p.horizon - 30), fill=p.tone(sign))
            for mx in steps(x + 20, x + wide - 12, 26):
                for canvas in (p.draw, p.glow):
                    canvas.line((mx, p.horizon - 30, mx, p.horizon - 3), fill=(30, 30, 34), width=2)
        x += wide


def _tree(p: Painter, x: float, foot: float, size: float) -> None:
    trunk = p.tone((0.30, 0.22, 0.16))
    p.draw.line((x, foot, x, foot - size), fill=trunk, width=max(2, int(size / 12)))
    for _ in range(12):
        angle, reach = p.between(-1.2, 1.2), p.between(0.3, 0.75) * size
        root = foot - size * p.between(0.45, 1.0)
        tip = (x + reach * math.sin(angle), root - reach * math.cos(angle))
        p.draw.line((x, root, *tip), fill=trunk, width=2)
        if p.season.leaves is not None:
            r = size * p.between(0.14, 0.26)
            p.draw.ellipse((tip[0] - r, tip[1] - r, tip[0] + r, tip[1] + r), fill=p.tone(p.season.leaves, 0.35))


def _bush(p: Painter, x: float, foot: float, size: float) -> None:
    leaves = p.season.leaves or (0.26, 0.30, 0.22)
    for _ in range(16):
        cx, cy, r = x + p.between(-1, 1) * size, foot - p.between(0.1, 0.6) * size, size * p.between(0.12, 0.3)
        p.draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=p.tone(leaves, 0.35))
    if p.season.snow:
        p.draw.ellipse((x - 0.8 * size, foot - 0.95 * size, x + 0.8 * size, foot - 0.55 * size), fill=p.tone((0.9, 0.93, 0.96)))


def _lamp(p: Painter, x: float, foot: float) -> None:
    p.draw.line((x, foot, x, foot - 62), fill=p.tone((0.22, 0.23, 0.25)), width=3)
    lamp = p.tone(p.choice(LAMPS))
    for canvas in (p.draw, p.glow):
        canvas.ellipse((x - 6, foot - 70, x + 6, foot - 59), fill=lamp)


def _car(p: Painter, x: float, foot: float) -> None:
    long, tall = p.between(75, 105), p.between(26, 34)
    paint = p.tone(p.choice(PAINTS))
    top = foot - tall
    roof = [
        (x + 0.2 * long, top),
        (x + 0.32 * long, top - 0.62 * tall),
        (x + 0.72 * long, top - 0.62 * tall),
        (x + 0.86 * long, top),
    ]
    p.draw.polygon(roof, fill=p.tone((0.2, 0.25, 0.3)), outline=paint)
    p.draw.rounded_rectangle((x, top, x + long, foot - 5), radius=6, fill=paint)
    for wheel in (0.2, 0.8):
        cx = x + wheel * long
        p.draw.ellipse((cx - 8, foot - 14, cx + 8, foot + 2), fill=(20, 20, 22))
    p.glow.ellipse((x - 5, top + 5, x + 7, top + 14), fill=p.tone((1.0, 0.97, 0.85)))
    p.glow.ellipse((x + long - 5, top + 6, x + long + 2, top + 12), fill=p.tone((0.9, 0.1, 0.05)))


def _bench(p: Painter, x: float, foot: float) -> None:
    wood = p.tone((0.48, 0.32, 0.2))
    for dy in (-24, -19, -12):
        p.draw.rectangle((x, foot + dy, x + 46, foot + dy + 3), fill=wood)
    for dx in (5, 39):
        p.draw.line((x + dx, foot - 24, x + dx, foot), fill=(40, 40, 44), width=2)


def _bicycle(p: Painter, x: float, foot: float) -> None:
    frame = p.tone(p.choice(PAINTS))
    for cx in (x, x + 32):
        p.draw.ellipse((cx - 11, foot - 22, cx + 11, foot), outline=(25, 25, 28), width=2)
    p.draw.line((x, foot - 11, x + 10, foot - 27, x + 28, foot - 27, x + 16, foot - 11, x, foot - 11), fill=frame, width=2)
    p.draw.line((x + 32, foot - 11, x + 26, foot - 33), fill=frame, width=2)


def _stall(p: Painter, x: float, foot: float) -> None:
    cloth = p.choice(PAINTS)
    for k in range(6):
        stripe = p.tone(cloth if k % 2 else (0.93, 0.92, 0.9))
        p.draw.polygon(
            [(x + 12 * k, foot - 62), (x + 12 * k + 12, foot - 62), (x + 13 * k + 9, foot - 46), (x + 13 * k - 4, foot - 46)],
            fill=stripe,
        )
    p.draw.rectangle((x + 4, foot - 46, x + 70, foot - 20), fill=p.tone((0.3, 0.24, 0.2)))
    p.draw.rectangle((x, foot - 22, x + 74, foot), fill=p.tone((0.6, 0.5, 0.4)))
    p.glow.rectangle((x + 6, foot - 44, x + 68, foot - 24), fill=p.tone((0.7, 0.55, 0.3)))


def _sky(p: Painter) -> None:
    p.draw.rectangle((0, 0, WIDTH, p.horizon), fill=p.tone(p.season.sky))


def _scatter(p: Painter, thing: Callable[..., None], count: int, *sizes: float) -> None:
    for x in p.rng.uniform(0, WIDTH, count):
        thing(p, float(x), p.horizon + p.between(0, 14), *(p.between(0.8, 1.2) * size for size in sizes))


def paint_plaza(p: Painter) -> None:
    _facade(p)
    stone = p.choice(((0.70, 0.66, 0.60), (0.60, 0.60, 0.60), (0.74, 0.62, 0.54)))
    _ground(p, stone)
    _tiles(p, tuple(0.86 * c for c in stone))  # type: ignore[arg-type]
    _scatter(p, _stall, 2)
    _scatter(p, _bench, 2)
    _scatter(p, _lamp, 2)


def paint_street(p: Painter) -> None:
    _facade(p)
    _ground(p, (0.34, 0.35, 0.37))
    kerb = p.horizon + 14
    p.draw.rectangle((0, p.horizon, WIDTH, kerb), fill=p.tone((0.6, 0.6, 0.58)))
    for x in steps(-20, WIDTH, 70):
        p.draw.polygon(
            [(x, kerb + 38), (x + 34, kerb + 38), (x + 30, kerb + 43), (x - 5, kerb + 43)], fill=p.tone((0.85, 0.85, 0.82))
        )
    for x in steps(p.between(0, 60), WIDTH, p.between(125, 190)):
        _car(p, x, kerb + p.between(6, 14))
    _scatter(p, _lamp, 2)


def paint_crossing(p: Painter) -> None:
    _facade(p)
    _ground(p, (0.38, 0.38, 0.40))
    for k in range(-6, 12):
        far, near = WIDTH / 2 + (k - 3) * 38, WIDTH / 2 + (k - 3) * 66
        p.draw.polygon(
            [(far, p.horizon + 10), (far + 18, p.horizon + 10), (near + 32, HEIGHT), (near, HEIGHT)],
            fill=p.tone((0.88, 0.88, 0.86)),
        )
    for x in steps(p.between(0, 120), WIDTH, 230):
        _car(p, x, p.horizon + 12)


def paint_park(p: Painter) -> None:
    _sky(p)
    _scatter(p, _tree, 9, 70)
    _ground(p, p.season.grass)
    path = p.tone((0.74, 0.66, 0.52) if not p.season.snow else (0.70, 0.71, 0.74))
    start = p.between(0.2, 0.8) * WIDTH
    p.draw.polygon([(start, p.horizon), (start + 60, p.horizon), (start + 260, HEIGHT), (start - 160, HEIGHT)], fill=path)
    _scatter(p, _bush, 7, 26)
    _scatter(p, _bench, 2)
    _scatter(p, _lamp, 1)


def paint_brick(p: Painter) -> None:
    brick = p.choice(((0.58, 0.32, 0.26), (0.52, 0.46, 0.42), (0.66, 0.60, 0.50)))
    p.draw.rectangle((0, 0, WIDTH, p.horizon), fill=p.tone(brick))
    joint = p.tone(tuple(0.8 * c for c in brick))  # type: ignore[arg-type]
    for k, y in enumerate(range(0, p.horizon, 7)):
        p.draw.line((0, y, WIDTH, y), fill=joint)
        for x in range(8 * (k % 2), WIDTH, 16):
            p.draw.line((x, y, x, y + 7), fill=joint)
    for x in p.rng.uniform(0, WIDTH, 5):
        wide, tall = p.between(14, 34), p.between(18, 40)
        p.draw.rectangle(
            (x, p.horizon - 60, x + wide, p.horizon - 60 + tall), fill=p.tone(p.choice(PAINTS)), outline=(235, 235, 230)
        )
    _ground(p, (0.56, 0.55, 0.53))
    _tiles(p, (0.48, 0.47, 0.46))
    _scatter(p, _bicycle, 6)
    _scatter(p, _lamp, 2)


SCENES: dict[str, Callable[[Painter], None]] = {
    "plaza": paint_plaza,
    "street": paint_street,
    "crossing": paint_crossing,
    "park": paint_park,
    "brick": paint_brick,
}


def paint_scene(rng: np.random.Generator, kind: str, season: Season) -> Scene:
    """One camera's panorama, [HEIGHT, WIDTH, 3] twice, with its things placed by `rng`."""
    painter = Painter(rng, season, int(rng.integers(64, 92)))
    SCENES[kind](painter)
    grain = rng.standard_normal((HEIGHT, WIDTH, 1)).astype(np.float32) * 0.02
    albedo = np.asarray(painter.picture, np.float32) / 255.0 + grain
    albedo = 0.7 * albedo + 0.3 * albedo.mean(2, keepdims=True)  # streets are duller than clothes
    halo = np.asarray(painter.lights.filter(ImageFilter.GaussianBlur(5)), np.float32) / 255.0
    emission = np.asarray(painter.lights, np.float32) / 255.0 + 0.9 * halo
    return Scene(np.clip(albedo, 0.0, 1.0), emission, painter.horizon)

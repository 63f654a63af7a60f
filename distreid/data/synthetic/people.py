"""Who is drawn: an identity's build, hair, clothes and carried things, sampled from a domain's wardrobe."""

from __future__ import annotations

import colorsys
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")
RGB = tuple[float, float, float]  # display values in [0, 1]

COLOURS: dict[str, RGB] = {
    "black": (0.09, 0.09, 0.10),
    "charcoal": (0.25, 0.26, 0.28),
    "grey": (0.52, 0.53, 0.54),
    "white": (0.93, 0.93, 0.91),
    "cream": (0.88, 0.82, 0.66),
    "khaki": (0.66, 0.58, 0.40),
    "brown": (0.42, 0.27, 0.16),
    "red": (0.80, 0.12, 0.13),
    "burgundy": (0.45, 0.09, 0.16),
    "orange": (0.92, 0.47, 0.11),
    "yellow": (0.93, 0.80, 0.20),
    "lime": (0.58, 0.78, 0.22),
    "green": (0.15, 0.52, 0.25),
    "olive": (0.36, 0.38, 0.18),
    "teal": (0.10, 0.52, 0.54),
    "sky": (0.47, 0.71, 0.90),
    "blue": (0.14, 0.30, 0.76),
    "denim": (0.30, 0.40, 0.58),
    "navy": (0.11, 0.15, 0.33),
    "purple": (0.44, 0.20, 0.58),
    "pink": (0.93, 0.58, 0.70),
    "magenta": (0.78, 0.16, 0.50),
}
COLOURS_EVEN: dict[str, float] = dict.fromkeys(COLOURS, 1.0)
SKINS: tuple[RGB, ...] = ((0.95, 0.78, 0.68), (0.88, 0.69, 0.56), (0.76, 0.57, 0.43), (0.56, 0.39, 0.28), (0.38, 0.26, 0.19))
HAIRS: tuple[RGB, ...] = (
    (0.07, 0.06, 0.06),
    (0.20, 0.13, 0.09),
    (0.38, 0.24, 0.13),
    (0.78, 0.62, 0.34),
    (0.58, 0.27, 0.12),
    (0.68, 0.67, 0.66),
)


class Pattern(IntEnum):
    """What the second colour of a cloth does; lengths are in body heights."""

    PLAIN = 0
    STRIPES = 1  # rings around the body
    PINSTRIPES = 2  # vertical
    CHECKS = 3
    TWO_TONE = 4  # second colour below a line
    PRINT = 5  # a block on the chest, seen from the front
    OPEN = 6  # a shirt under an open jacket, seen from the front
    BLOTCHES = 7
    SIDE = 8  # a band along the outer seam
    BACK_PRINT = 9  # a block on the shoulders, seen from behind


SHIRT_PATTERNS = {
    Pattern.STRIPES: 0.28,
    Pattern.PINSTRIPES: 0.08,
    Pattern.CHECKS: 0.16,
    Pattern.TWO_TONE: 0.18,
    Pattern.PRINT: 0.16,
    Pattern.BLOTCHES: 0.08,
    Pattern.BACK_PRINT: 0.06,
}
OUTERWEAR_PATTERNS = {Pattern.OPEN: 0.5, Pattern.TWO_TONE: 0.3, Pattern.BACK_PRINT: 0.2}


@dataclass(frozen=True)
class Cloth:
    pattern: Pattern
    colour: RGB
    second: RGB
    size: float  # period of the pattern, or half width of its block
    line: float  # height on the body of a line or of a block's centre


@dataclass(frozen=True)
class Person:
    build: float  # width over average width
    head: float  # head size over average
    legs: float  # hip height in body heights
    skin: RGB
    hair: RGB
    hair_style: str  # bald, short, long, bun
    upper: Cloth
    upper_kind: str  # tshirt, shirt, jacket, hoodie, coat, dress
    lower: Cloth
    lower_kind: str  # trousers, shorts, skirt
    shoes: RGB
    hat: str  # none, cap, beanie, brim
    hat_colour: RGB
    bag: str  # none, backpack, handbag, shoulder
    bag_colour: RGB
    scarf: RGB | None


@dataclass(frozen=True)
class Wardrobe:
    """What people wear in a domain: each mapping is name -> relative frequency."""

    upper_kinds: Mapping[str, float]
    lower_kinds: Mapping[str, float]
    upper_colours: Mapping[str, float]
    lower_colours: Mapping[str, float]
    hats: Mapping[str, float]
    bags: Mapping[str, float]
    patterned: float  # share of patterned upper garments
    scarf: float  # share of people with a scarf


def pick(rng: np.random.Generator, weights: Mapping[Choice, float]) -> Choice:
    """One of the keys, drawn in proportion to its weight."""
    bounds = list(accumulate(weights.values()))
    return list(weights)[bisect_right(bounds, rng.random() * bounds[-1])]


def dye(rng: np.random.Generator, weights: Mapping[str, float]) -> RGB:
    """A named colour with an identity's own hue, saturation and value."""
    hue, saturation, value = colorsys.rgb_to_hsv(*COLOURS[pick(rng, weights)])
    jitter = rng.uniform(-1.0, 1.0, 3)
    return colorsys.hsv_to_rgb(
        (hue + 0.02 * jitter[0]) % 1.0,
        min(max(saturation * (1 + 0.15 * jitter[1]), 0.0), 1.0),
        min(max(value * (1 + 0.12 * jitter[2]), 0.04), 0.97),
    )


def contrasting(rng: np.random.Generator, weights: Mapping[str, float], base: RGB) -> RGB:
    """A dyed colour that can be told from `base` at a few pixels' size."""
    for _ in range(8):
        colour = dye(rng, weights)
        if sum(abs(a - b) for a, b in zip(colour, base, strict=True)) > 0.6:
            return colour
    return COLOURS["white"] if sum(base) < 1.5 else COLOURS["black"]


def _upper_cloth(rng: np.random.Generator, wardrobe: Wardrobe, kind: str) -> Cloth:
    colour = dye(rng, wardrobe.upper_colours)
    second = contrasting(rng, wardrobe.upper_colours, colour)
    pattern = Pattern.PLAIN
    if rng.random() < wardrobe.patterned:
        pattern = pick(rng, OUTERWEAR_PATTERNS if kind in ("jacket", "coat") else SHIRT_PATTERNS)
    sizes = {Pattern.PRINT: (0.035, 0.06), Pattern.BACK_PRINT: (0.04, 0.07), Pattern.OPEN: (0.02, 0.04)}
    lines = {Pattern.TWO_TONE: (0.62, 0.74), Pattern.PRINT: (0.68, 0.75), Pattern.BACK_PRINT: (0.70, 0.76)}
    return Cloth(
        pattern,
        colour,
        second,
        size=float(rng.uniform(*sizes.get(pattern, (0.022, 0.045)))),
        line=float(rng.uniform(*lines.get(pattern, (0.6, 0.7)))),
    )


def _lower_cloth(rng: np.random.Generator, wardrobe: Wardrobe, kind: str) -> Cloth:
    colour = dye(rng, wardrobe.lower_colours)
    patterns = {"trousers": (Pattern.SIDE, 0.12), "shorts": (Pattern.BLOTCHES, 0.15), "skirt": (Pattern.CHECKS, 0.3)}
    pattern, share = patterns[kind]
    if rng.random() >= share:
        pattern = Pattern.PLAIN
    return Cloth(pattern, colour, contrasting(rng, COLOURS_EVEN, colour), size=float(rng.uniform(0.03, 0.05)), line=0.5)


def sample_person(rng: np.random.Generator, wardrobe: Wardrobe) -> Person:
    """One identity; everything about it that stays the same from camera to camera."""
    upper_kind = pick(rng, wardrobe.upper_kinds)
    upper = _upper_cloth(rng, wardrobe, upper_kind)
    lower_kind = pick(rng, wardrobe.lower_kinds)
    lower = _lower_cloth(rng, wardrobe, lower_kind)
    skin = SKINS[int(rng.integers(len(SKINS)))]
    return Person(
        build=float(rng.uniform(0.86, 1.24)),
        head=float(rng.uniform(0.94, 1.10)),
        legs=float(rng.uniform(0.47, 0.53)),
        skin=skin,
        hair=HAIRS[int(rng.choice(len(HAIRS), p=(0.3, 0.22, 0.16, 0.14, 0.08, 0.1)))],
        hair_style=pick(rng, {"short": 0.45, "long": 0.3, "bun": 0.17, "bald": 0.08}),
        upper=upper,
        upper_kind=upper_kind,
        lower=lower,
        lower_kind=lower_kind,
        shoes=dye(rng, {"black": 3, "white": 3, "brown": 2, "grey": 1, "red": 1, "blue": 0.7, "lime": 0.4, "orange": 0.4}),
        hat=pick(rng, wardrobe.hats),
        hat_colour=dye(rng, COLOURS_EVEN),
        bag=pick(rng, wardrobe.bags),
        bag_colour=dye(rng, COLOURS_EVEN),
        scarf=dye(rng, COLOURS_EVEN) if rng.random() < wardrobe.scarf else None,
    )

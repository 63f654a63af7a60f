"""A person in a pose as ellipsoids and materials for `render`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distreid.data.synthetic.people import RGB, Cloth, Pattern, Person
from distreid.data.synthetic.render import MATERIAL_COLUMNS, SLICE, SOLID, STRAPS_BACKPACK, STRAPS_DIAGONAL, STRAPS_NONE

# Rows of the material table.
SKIN, HAIR, UPPER, LOWER, SHOES, HAT, BAG, SCARF, EYES, GLOVES = range(10)

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Pose:
    stride: float  # half angle between the legs, radians; 0 stands
    phase: float  # place in the walking cycle, radians
    arm_bend: tuple[float, float]  # forearm bend of the left and the right arm, radians


def sample_pose(rng: np.random.Generator) -> Pose:
    """Mostly walking, sometimes standing, now and then with a forearm raised (a phone, a cup)."""
    stride = float(rng.uniform(0.25, 0.5)) if rng.random() < 0.75 else float(rng.uniform(0.0, 0.1))
    bends = [float(rng.uniform(1.3, 1.9)) if rng.random() < 0.1 else float(rng.uniform(0.1, 0.5)) for _ in range(2)]
    return Pose(stride, float(rng.uniform(0, 2 * math.pi)), (bends[0], bends[1]))


def chain(start: Point, end: Point, r0: float, r1: float, material: int, along: tuple[float, float]) -> np.ndarray:
    """A tapered limb: spheres from `start` to `end`, [n, 8]."""
    n = max(3, math.ceil(math.dist(start, end) / (0.3 * min(r0, r1))))
    t_N = np.linspace(0.0, 1.0, n)
    rows = np.empty((n, 8))
    for axis in range(3):
        rows[:, axis] = start[axis] + t_N * (end[axis] - start[axis])
    rows[:, 3:6] = (r0 + t_N * (r1 - r0))[:, None]
    rows[:, 6] = material
    rows[:, 7] = along[0] + t_N * (along[1] - along[0])
    return rows


def stack(sections: list[tuple[float, float, float, float]], material: int, thickness: float = 0.03) -> np.ndarray:
    """A trunk or a skirt: flat ellipsoids through sections (height, half width, half depth, forward shift), [n, 8]."""
    table = np.array(sections)
    order = np.argsort(table[:, 0])
    n = max(2, math.ceil((table[:, 0].max() - table[:, 0].min()) / 0.012))
    y_N = np.linspace(table[:, 0].min(), table[:, 0].max(), n)
    rows = np.zeros((n, 8))
    rows[:, 1] = y_N
    rows[:, 3] = np.interp(y_N, table[order, 0], table[order, 1])
    rows[:, 4] = thickness
    rows[:, 5] = np.interp(y_N, table[order, 0], table[order, 2])
    rows[:, 2] = np.interp(y_N, table[order, 0], table[order, 3])
    rows[:, 6] = material
    rows[:, 7] = SLICE
    return rows


def blob(centre: Point, radii: Point, material: int) -> np.ndarray:
    """One ellipsoid, [1, 8]."""
    return np.array([[*centre, *radii, material, SOLID]])


def _leg(person: Person, side: int, swing: float, bend: float) -> list[np.ndarray]:
    hip_y = person.legs
    thigh, shin = 0.49 * hip_y, 0.45 * hip_y
    hip = (side * 0.046 * person.build, hip_y, 0.0)
    knee = (hip[0], hip_y - thigh * math.cos(swing), thigh * math.sin(swing))
    ankle = (hip[0], knee[1] - shin * math.cos(swing - bend), knee[2] + shin * math.sin(swing - bend))
    bare_thigh = person.lower_kind == "skirt"
    bare_shin = person.lower_kind != "trousers"
    wide = 1.0 if bare_shin else 1.12
    girth = 0.5 + 0.5 * person.build
    return [
        chain(hip, knee, 0.056 * girth, 0.040 * girth, SKIN if bare_thigh else LOWER, (0.0, 0.5)),
        chain(knee, ankle, 0.037 * girth * wide, 0.026 * girth * wide, SKIN if bare_shin else LOWER, (0.5, 1.0)),
        blob((ankle[0], ankle[1] - 0.022, ankle[2] + 0.026), (0.027, 0.022, 0.056), SHOES),
    ]


def _arm(person: Person, side: int, swing: float, bend: float) -> tuple[list[np.ndarray], Point]:
    spread = 0.10 + 0.06 * person.build
    shoulder = (side * 0.098 * person.build, 0.772, 0.0)
    elbow = (
        shoulder[0] + side * 0.17 * math.sin(spread),
        shoulder[1] - 0.165 * math.cos(swing),
        0.165 * math.sin(swing),
    )
    wrist = (
        elbow[0] - side * 0.01,
        elbow[1] - 0.15 * math.cos(swing + bend),
        elbow[2] + 0.15 * math.sin(swing + bend),
    )
    girth = 0.5 + 0.5 * person.build
    bulk = girth * (1.22 if person.upper_kind in ("coat", "jacket", "hoodie") else 1.0)
    short = person.upper_kind in ("tshirt", "dress")
    middle: Point = tuple(s + 0.62 * (e - s) for s, e in zip(shoulder, elbow, strict=True))  # type: ignore[assignment]
    rows = [chain(shoulder, middle if short else elbow, 0.037 * bulk, 0.032 * bulk, UPPER, (0.0, 0.5))]
    if short:
        rows.append(chain(middle, elbow, 0.027 * girth, 0.026 * girth, SKIN, (0.3, 0.5)))
    rows.append(chain(elbow, wrist, 0.030 * bulk, 0.024 * bulk, SKIN if short else UPPER, (0.5, 1.0)))
    hand = (wrist[0], wrist[1] - 0.02, wrist[2] + 0.006)
    rows.append(blob(hand, (0.019, 0.028, 0.022), GLOVES))
    return rows, hand


def _trunk(person: Person, swing: float) -> list[np.ndarray]:
    wide, hip = person.build, person.legs
    bulk = 1.13 if person.upper_kind in ("coat", "jacket", "hoodie") else 1.0
    sections = [
        (hip + 0.01, 0.100, 0.066, 0.0),
        (0.63, 0.088, 0.060, 0.0),
        (0.72, 0.100, 0.066, 0.004),
        (0.765, 0.104, 0.060, 0.0),
        (0.80, 0.086, 0.050, -0.002),
        (0.825, 0.056, 0.042, -0.004),
    ]
    rows = [stack([(y, x * wide * bulk, z * (0.5 + 0.5 * wide) * bulk, s) for y, x, z, s in sections], UPPER)]
    rows.append(stack([(hip - 0.02, 0.094 * wide, 0.066, 0.0), (hip + 0.02, 0.092 * wide, 0.062, 0.0)], LOWER))
    hem = {"coat": hip - 0.17, "dress": hip - 0.16}.get(person.upper_kind)
    depth = 0.068 + 0.17 * math.tan(abs(swing))  # the hem goes with the legs
    if hem is not None:
        flare = 0.120 if person.upper_kind == "coat" else 0.130
        rows.append(stack([(hip + 0.04, 0.100 * wide * bulk, 0.07, 0.0), (hem, flare * wide, depth, 0.0)], UPPER))
    elif person.lower_kind == "skirt":
        rows.append(stack([(hip + 0.03, 0.094 * wide, 0.066, 0.0), (hip - 0.17, 0.122 * wide, depth, 0.0)], LOWER))
    rows.append(chain((0.0, 0.81, 0.0), (0.0, 0.875, 0.006), 0.034, 0.030, SKIN, (0.0, 0.0)))
    if person.scarf is not None:
        rows.append(stack([(0.825, 0.064, 0.062, 0.004), (0.858, 0.050, 0.050, 0.006)], SCARF, 0.02))
        rows.append(chain((0.03, 0.82, 0.058), (0.035, 0.70, 0.078), 0.017, 0.020, SCARF, (0.0, 0.0)))
    if person.upper_kind == "hoodie":
        rows.append(blob((0.0, 0.835, -0.045), (0.070, 0.032, 0.040), UPPER))
    return rows


def _head(person: Person) -> list[np.ndarray]:
    s = person.head
    y = 0.925
    rows = [blob((0.0, y, 0.008), (0.050 * s, 0.070 * s, 0.060 * s), SKIN)]
    rows.extend(blob((x * s, y + 0.006, 0.008 + 0.052 * s), (0.011, 0.008, 0.010), EYES) for x in (-0.022, 0.022))
    if person.hair_style != "bald":
        rows.append(blob((0.0, y + 0.020 * s, -0.010), (0.056 * s, 0.064 * s, 0.062 * s), HAIR))
    if person.hair_style == "long":
        rows.append(stack([(0.80, 0.052, 0.030, -0.052), (0.86, 0.060, 0.036, -0.040), (0.93, 0.058, 0.05, -0.02)], HAIR))
    if person.hair_style == "bun":
        rows.append(blob((0.0, y + 0.040, -0.072), (0.030, 0.030, 0.028), HAIR))
    if person.hat != "none":
        rows.append(blob((0.0, y + 0.038 * s, -0.004), (0.060 * s, 0.052 * s, 0.068 * s), HAT))
    if person.hat == "cap":
        rows.append(blob((0.0, y + 0.034 * s, 0.070), (0.042, 0.010, 0.045), HAT))
    if person.hat == "brim":
        rows.append(blob((0.0, y + 0.026 * s, 0.0), (0.105, 0.012, 0.110), HAT))
    if person.hat == "beanie":
        rows.append(blob((0.0, y + 0.092 * s, -0.004), (0.020, 0.020, 0.020), HAT))
    return rows


def _bag(person: Person, hand: Point) -> list[np.ndarray]:
    if person.bag == "backpack":
        sections = [(0.60, 0.070, 0.040, -0.100), (0.68, 0.080, 0.050, -0.108), (0.79, 0.062, 0.034, -0.094)]
        return [stack(sections, BAG)]
    if person.bag == "handbag":
        x, y, z = hand
        bag = stack([(y - 0.155, 0.028, 0.070, z), (y - 0.065, 0.022, 0.052, z)], BAG, 0.02)
        bag[:, 0] = x
        return [bag, chain((x, y - 0.07, z - 0.035), (x, y, z), 0.007, 0.007, BAG, (0.0, 0.0))]
    if person.bag == "shoulder":
        bag = stack([(0.46, 0.036, 0.078, 0.0), (0.57, 0.030, 0.070, 0.0)], BAG, 0.025)
        bag[:, 0] = -0.125 * person.build
        return [bag]
    return []


def build_parts(person: Person, pose: Pose) -> np.ndarray:
    """The figure in a pose: [n, 8] float64, standing on y = 0."""
    swing = pose.stride * math.sin(pose.phase)
    lift = pose.stride * max(0.0, math.cos(pose.phase))
    left, right = pose.arm_bend
    legs = _leg(person, 1, swing, 0.12 + lift + max(0.0, -swing)) + _leg(
        person, -1, -swing, 0.12 + pose.stride * max(0.0, -math.cos(pose.phase)) + max(0.0, swing)
    )
    arm_left, hand = _arm(person, 1, -0.8 * swing, left)
    arm_right, _ = _arm(person, -1, 0.8 * swing, right)
    rows = np.concatenate(legs + arm_left + arm_right + _trunk(person, swing) + _head(person) + _bag(person, hand))
    rows[:, 1] -= (rows[:, 1] - rows[:, 4]).min()
    return rows


def _plain(colour: RGB) -> Cloth:
    return Cloth(Pattern.PLAIN, colour, colour, 1.0, 0.0)


def build_materials(person: Person) -> np.ndarray:
    """The colours and patterns that `build_parts` refers to: [10, 13] float64."""
    gloves = person.hat_colour if person.scarf is not None else person.skin
    dark = (0.35 * person.skin[0], 0.3 * person.skin[1], 0.3 * person.skin[2])
    cloths = {
        SKIN: _plain(person.skin),
        HAIR: _plain(person.hair),
        UPPER: person.upper,
        LOWER: person.lower,
        SHOES: _plain(person.shoes),
        HAT: _plain(person.hat_colour),
        BAG: _plain(person.bag_colour),
        SCARF: _plain(person.scarf or person.skin),
        EYES: _plain(dark),
        GLOVES: _plain(gloves),
    }
    table = np.zeros((len(cloths), MATERIAL_COLUMNS))
    for row, cloth in cloths.items():
        table[row, :9] = (*cloth.colour, *cloth.second, cloth.pattern, cloth.size, cloth.line)
    straps = {"backpack": STRAPS_BACKPACK, "shoulder": STRAPS_DIAGONAL}.get(person.bag, STRAPS_NONE)
    table[UPPER, 9:] = (straps, *person.bag_colour)
    return table

"""The renderer against a ray by ray oracle, and what is seen of a figure from where."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from distreid.data.synthetic.domains import DAY, DOMAINS
from distreid.data.synthetic.figure import LOWER, UPPER, Pose, build_materials, build_parts, sample_pose
from distreid.data.synthetic.people import COLOURS, Cloth, Pattern, Person, sample_person
from distreid.data.synthetic.render import MATERIAL_COLUMNS, SUPERSAMPLING, render, view_matrix

SIZE, SCALE, LEFT, BOTTOM = (64, 32), 58.0, 16.0, 62.0
STAND = Pose(stride=0.0, phase=0.0, arm_bend=(0.2, 0.2))


def shoot(parts: np.ndarray, materials: np.ndarray, view: np.ndarray, light: np.ndarray | None = None) -> np.ndarray:
    return render(
        parts,
        materials,
        view,
        size=SIZE,
        scale=SCALE,
        left=LEFT,
        bottom=BOTTOM,
        light_3=np.array([0.0, 0.0, 1.0]) if light is None else light,
        ambient=0.6,
        fold=0.0,
    )


def person(**changes: object) -> Person:
    return replace(sample_person(np.random.default_rng(5), DAY.wardrobe), **changes)  # type: ignore[arg-type]


def plain(colour: str, pattern: Pattern = Pattern.PLAIN, second: str = "white") -> Cloth:
    return Cloth(pattern, COLOURS[colour], COLOURS[second], size=0.05, line=0.7)


def test_a_view_is_a_rotation_and_azimuth_0_sees_the_front() -> None:
    view = view_matrix(0.7, 0.3, -0.1)
    assert np.allclose(view @ view.T, np.eye(3)) and np.isclose(np.linalg.det(view), 1.0)
    front = np.array([0.0, 0.0, 1.0])
    assert np.allclose(view_matrix(0.0, 0.0, 0.0) @ front, [0, 0, 1])
    assert np.allclose(view_matrix(math.pi, 0.0, 0.0) @ front, [0, 0, -1])
    # From above, what is nearer stands lower in the picture.
    assert (view_matrix(0.0, 0.4, 0.0) @ front)[1] < 0


@pytest.mark.parametrize("seed", range(3))
def test_coverage_and_order_equal_a_ray_by_ray_oracle(seed: int) -> None:
    """Every ray meets every ellipsoid in numpy: it hits where the scaled line passes the centre closer than 1."""
    rng = np.random.default_rng(seed)
    n = 12
    parts = np.empty((n, 8))
    parts[:, :3] = rng.uniform((-0.2, 0.1, -0.2), (0.2, 0.9, 0.2), (n, 3))
    parts[:, 3:6] = rng.uniform(0.04, 0.16, (n, 3))
    parts[:, 6] = np.arange(n)
    parts[:, 7] = 0.0
    materials = np.zeros((n, MATERIAL_COLUMNS))
    materials[:, 0] = np.arange(n)  # the red of a part is its number
    view = view_matrix(*rng.uniform((-3, 0, -0.2), (3, 0.5, 0.2)))
    flat = render(
        parts, materials, view, size=SIZE, scale=SCALE, left=LEFT, bottom=BOTTOM, light_3=np.zeros(3), ambient=1.0, fold=0.0
    )

    ss = SUPERSAMPLING
    coverage = np.zeros((SIZE[0] * ss, SIZE[1] * ss))
    first = np.zeros_like(coverage)
    for r in range(SIZE[0] * ss):
        for c in range(SIZE[1] * ss):
            at = np.array([((c + 0.5) / ss - LEFT) / SCALE, (BOTTOM - (r + 0.5) / ss) / SCALE, 0.0]) @ view
            start, along = (at - parts[:, :3]) / parts[:, 3:6], view[2] / parts[:, 3:6]
            unit = np.linalg.norm(along, axis=1)
            middle = -(start * along).sum(1) / unit**2
            square = ((start + middle[:, None] * along) ** 2).sum(1)
            depth = np.where(square < 1.0, middle + np.sqrt(np.maximum(1.0 - square, 0.0)) / unit, -np.inf)
            coverage[r, c] = np.isfinite(depth).any()
            first[r, c] = depth.argmax()

    def pixels(grid: np.ndarray) -> np.ndarray:
        return grid.reshape(SIZE[0], ss, SIZE[1], ss).mean((1, 3))

    assert np.allclose(flat[:, :, 3], pixels(coverage), atol=1e-6)
    # Shading dims a part's red, by 1.0 at most and by no more than all of it: a part in front shows at least that it is not 0.
    assert np.array_equal(flat[:, :, 0] > 0, pixels(coverage * (first > 0)) > 0)
    whole = pixels(coverage) == 1.0
    lone = whole & (pixels(first) == pixels(first**2) ** 0.5)
    ratio = flat[lone, 0] / np.maximum(pixels(first)[lone], 1.0)
    assert lone.sum() > 50 and ratio.max() < 1.08 and ratio[pixels(first)[lone] > 0].min() > 0.5


def test_light_from_the_left_lights_the_left() -> None:
    who, view = person(upper=plain("grey"), lower=plain("grey"), bag="none"), view_matrix(0.0, 0.1, 0.0)
    parts, materials = build_parts(who, STAND), build_materials(who)
    lit = shoot(parts, materials, view, np.array([-1.0, 0.0, 0.0]))[:, :, :3].sum(2)
    dark = shoot(parts, materials, view, np.array([1.0, 0.0, 0.0]))[:, :, :3].sum(2)
    assert lit[:, :16].sum() > dark[:, :16].sum() and lit[:, 16:].sum() < dark[:, 16:].sum()


def count(image: np.ndarray, colour: str) -> int:
    """Pixels of about that hue."""
    solid = image[:, :, 3] > 0.9
    rgb = image[:, :, :3] / np.maximum(image[:, :, :3].sum(2, keepdims=True), 1e-6)
    want = np.array(COLOURS[colour]) / sum(COLOURS[colour])
    return int((solid & (np.abs(rgb - want).sum(2) < 0.12)).sum())


def views(who: Person) -> tuple[np.ndarray, np.ndarray]:
    parts, materials = build_parts(who, STAND), build_materials(who)
    return shoot(parts, materials, view_matrix(0.0, 0.1, 0.0)), shoot(parts, materials, view_matrix(math.pi, 0.1, 0.0))


def test_a_print_is_seen_from_the_front_and_a_backpack_from_the_back() -> None:
    base = {"lower": plain("grey"), "hair": COLOURS["black"], "shoes": COLOURS["black"], "hat": "none", "scarf": None}
    front, back = views(person(upper=plain("grey", Pattern.PRINT, "lime"), bag="none", **base))
    assert count(front, "lime") > 8 and count(back, "lime") == 0
    front, back = views(person(upper=plain("grey"), bag="backpack", bag_colour=COLOURS["magenta"], **base))
    assert count(back, "magenta") > 60 and 0 < count(front, "magenta") < 30  # only its straps
    front, back = views(person(upper=plain("red"), hair_style="long", bag="none", **base | {"hair": COLOURS["lime"]}))
    assert count(back, "lime") > 1.5 * count(front, "lime") > 0


def test_clothes_cover_what_they_should() -> None:
    base = {"upper": plain("grey"), "shoes": COLOURS["black"], "skin": COLOURS["lime"], "bag": "none", "hat": "none", "scarf": None}
    bare = {
        kind: count(views(person(lower=plain("blue"), lower_kind=kind, upper_kind="shirt", **base))[0], "lime")
        for kind in ("trousers", "shorts", "skirt")
    }
    assert bare["trousers"] < bare["shorts"] and bare["trousers"] < bare["skirt"]
    sleeves = {
        kind: count(views(person(lower=plain("blue"), lower_kind="trousers", upper_kind=kind, **base))[0], "lime")
        for kind in ("tshirt", "shirt")
    }
    assert sleeves["tshirt"] > sleeves["shirt"]


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_figures_stand_on_the_ground_and_are_a_body_high(domain: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        who = sample_person(rng, DOMAINS[domain].wardrobe)
        parts = build_parts(who, sample_pose(rng))
        assert np.isfinite(parts).all() and (parts[:, 3:6] > 0).all()
        assert (parts[:, 1] - parts[:, 4]).min() == pytest.approx(0.0)
        assert 0.9 < (parts[:, 1] + parts[:, 4]).max() < 1.15
        assert np.abs(parts[:, 0]).max() < 0.3
        assert set(parts[:, 6]) <= set(range(len(build_materials(who)))) and {UPPER, LOWER} <= set(parts[:, 6])


def test_people_of_a_wardrobe_differ() -> None:
    rng = np.random.default_rng(0)
    people = [sample_person(rng, DAY.wardrobe) for _ in range(200)]
    looks = {(p.upper_kind, p.upper.pattern, p.lower_kind, p.hair_style, p.bag, p.hat) for p in people}
    assert len(looks) > 120
    assert {p.upper.pattern for p in people} == set(Pattern) - {Pattern.SIDE}

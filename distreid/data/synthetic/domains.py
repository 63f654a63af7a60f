"""The places that can be drawn. A domain is nothing but this table: add a row to have another."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from distreid.common.errors import UserError
from distreid.data.synthetic.camera import Look
from distreid.data.synthetic.people import COLOURS_EVEN, Wardrobe
from distreid.data.synthetic.scene import Season


@dataclass(frozen=True)
class Domain:
    name: str
    wardrobe: Wardrobe
    season: Season
    scenes: tuple[str, ...]  # a camera gets one of them, in turn
    look: Look


SUMMER = Season(sky=(0.72, 0.84, 0.95), grass=(0.40, 0.58, 0.26), leaves=(0.22, 0.44, 0.18), snow=False)
WINTER = Season(sky=(0.78, 0.81, 0.85), grass=(0.40, 0.40, 0.30), leaves=None, snow=True)

DAY = Domain(
    name="day",
    wardrobe=Wardrobe(
        upper_kinds={"tshirt": 5, "shirt": 3, "hoodie": 1, "jacket": 1, "dress": 1},
        lower_kinds={"trousers": 4, "shorts": 3, "skirt": 2},
        upper_colours={**COLOURS_EVEN, "white": 2, "black": 1.5},
        lower_colours={**COLOURS_EVEN, "denim": 3, "black": 2, "khaki": 2, "navy": 1.5},
        hats={"none": 7, "cap": 2, "brim": 1},
        bags={"none": 4, "backpack": 3, "handbag": 2, "shoulder": 2},
        patterned=0.6,
        scarf=0.0,
    ),
    season=SUMMER,
    scenes=("plaza", "park", "street", "brick", "crossing"),
    look=Look(
        exposure=(0.95, 1.10),
        warmth=(-0.03, 0.05),
        tint=(-0.02, 0.02),
        saturation=(0.90, 1.05),
        contrast=(0.98, 1.10),
        gamma=(0.94, 1.06),
        haze=(0.0, 0.03),
        ambient=(0.5, 0.7),
        lamp=(0.0, 0.0),
        emission=(0.0, 0.0),
        noise=(0.008, 0.018),
        blur=(0.0, 0.5),
        resolution=(0.8, 1.0),
        quality=(78, 92),
        elevation=(0.10, 0.38),
        flare=0.0,
        flakes=0.0,
    ),
)

NIGHT = Domain(
    name="night",
    wardrobe=Wardrobe(
        upper_kinds={"tshirt": 2, "shirt": 3, "hoodie": 2, "jacket": 3, "dress": 1},
        lower_kinds={"trousers": 6, "shorts": 1, "skirt": 2},
        upper_colours={**COLOURS_EVEN, "black": 2, "charcoal": 1.5, "navy": 1.5},
        lower_colours={**COLOURS_EVEN, "denim": 2, "black": 3, "charcoal": 2, "grey": 1.5},
        hats={"none": 8, "cap": 2},
        bags={"none": 4, "backpack": 2, "handbag": 3, "shoulder": 2},
        patterned=0.6,
        scarf=0.05,
    ),
    season=SUMMER,
    scenes=("street", "plaza", "crossing", "brick", "park"),
    # Its cameras differ little from each other and much from the day's: a gap that adaptation can close.
    look=Look(
        exposure=(0.52, 0.58),
        warmth=(0.02, 0.07),
        tint=(-0.02, 0.02),
        saturation=(0.85, 0.95),
        contrast=(1.0, 1.1),
        gamma=(0.98, 1.06),
        haze=(0.04, 0.06),
        ambient=(0.4, 0.6),
        lamp=(0.05, 0.12),
        emission=(0.3, 0.5),
        noise=(0.012, 0.022),
        blur=(0.1, 0.5),
        resolution=(0.75, 0.95),
        quality=(62, 85),
        elevation=(0.10, 0.45),
        flare=0.06,
        flakes=0.0,
    ),
)

SNOW = Domain(
    name="winter",
    wardrobe=Wardrobe(
        upper_kinds={"coat": 4, "jacket": 4, "hoodie": 2},
        lower_kinds={"trousers": 8, "skirt": 1},
        upper_colours={**COLOURS_EVEN, "black": 2.5, "navy": 2, "burgundy": 1.5, "brown": 1.5, "olive": 1.5},
        lower_colours={
            "black": 4,
            "charcoal": 3,
            "denim": 3,
            "navy": 3,
            "grey": 2,
            "brown": 2,
            "olive": 1,
            "burgundy": 1,
            "khaki": 1,
        },
        hats={"none": 4, "beanie": 5, "cap": 1},
        bags={"none": 4, "backpack": 3, "handbag": 2, "shoulder": 2},
        patterned=0.55,
        scarf=0.55,
    ),
    season=WINTER,
    scenes=("park", "street", "plaza", "brick", "crossing"),
    look=Look(
        exposure=(0.78, 0.98),
        warmth=(-0.16, -0.02),
        tint=(-0.03, 0.05),
        saturation=(0.6, 0.85),
        contrast=(0.8, 1.0),
        gamma=(0.85, 1.1),
        haze=(0.03, 0.10),
        ambient=(0.7, 0.85),
        lamp=(0.0, 0.0),
        emission=(0.0, 0.15),
        noise=(0.01, 0.025),
        blur=(0.2, 0.7),
        resolution=(0.6, 0.95),
        quality=(65, 88),
        elevation=(0.10, 0.38),
        flare=0.0,
        flakes=0.6,
    ),
)

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (DAY, NIGHT, SNOW)}


def find_domain(name: str) -> Domain:
    """The domain of that name; UserError names the nearest one."""
    if name in DOMAINS:
        return DOMAINS[name]
    near = difflib.get_close_matches(name, DOMAINS, n=1, cutoff=0.0)[0]
    raise UserError(f"unknown domain {name!r}: did you mean {near!r}? There are {', '.join(DOMAINS)}")

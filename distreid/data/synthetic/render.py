"""A small renderer: a figure is a cloud of ellipsoids, seen without perspective, with a depth buffer and cloth patterns.

Body frame, in body heights: x to the figure's left, y up from the ground, z forward. Camera frame: x right, y up, z towards
the viewer. An ellipsoid is a row (cx, cy, cz, rx, ry, rz, material, along), its axes those of the body frame; `along` is the place
on a limb, 0 to 1, or SOLID or SLICE.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SUPERSAMPLING = 2

# Columns of a material: two colours, pattern, its size and line, strap kind and strap colour.
MATERIAL_COLUMNS = 13
# Values of `along` off the limbs: a solid of its own, or a slice of a stack, which is lit as a smooth wall.
SOLID, SLICE = -1.0, -2.0

STRAPS_NONE, STRAPS_BACKPACK, STRAPS_DIAGONAL = 0, 1, 2


def view_matrix(azimuth: float, elevation: float, roll: float) -> np.ndarray:
    """Rotation [3, 3] float64 from the body frame to the camera frame; angles in radians.

    Azimuth 0 sees the front, pi the back; elevation is how far the camera looks down.
    """
    ca, sa = math.cos(azimuth), math.sin(azimuth)
    ce, se = math.cos(elevation), math.sin(elevation)
    cr, sr = math.cos(roll), math.sin(roll)
    turn = np.array([[ca, 0.0, sa], [0.0, 1.0, 0.0], [-sa, 0.0, ca]])
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, ce, -se], [0.0, se, ce]])
    lean = np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    return lean @ tilt @ turn


@njit(cache=True, nogil=True)
def _splat(parts, view, height, width, scale, left, bottom, depth, owner):  # type: ignore[no-untyped-def]
    """Fill the depth buffer and the index of the nearest part; pixel (r, c) looks at camera x = (c + .5 - left) / scale."""
    dx, dy, dz = view[2, 0], view[2, 1], view[2, 2]
    for k in range(parts.shape[0]):
        cx, cy, cz = parts[k, 0], parts[k, 1], parts[k, 2]
        rx, ry, rz = parts[k, 3], parts[k, 4], parts[k, 5]
        sx = view[0, 0] * cx + view[0, 1] * cy + view[0, 2] * cz
        sy = view[1, 0] * cx + view[1, 1] * cy + view[1, 2] * cz
        ex = math.sqrt((view[0, 0] * rx) ** 2 + (view[0, 1] * ry) ** 2 + (view[0, 2] * rz) ** 2)
        ey = math.sqrt((view[1, 0] * rx) ** 2 + (view[1, 1] * ry) ** 2 + (view[1, 2] * rz) ** 2)
        c0 = max(0, math.floor(left + (sx - ex) * scale))
        c1 = min(width, math.ceil(left + (sx + ex) * scale) + 1)
        r0 = max(0, math.floor(bottom - (sy + ey) * scale))
        r1 = min(height, math.ceil(bottom - (sy - ey) * scale) + 1)
        ux, uy, uz = dx / rx, dy / ry, dz / rz
        a = ux * ux + uy * uy + uz * uz
        stepx, stepy, stepz = view[0, 0] / (rx * scale), view[0, 1] / (ry * scale), view[0, 2] / (rz * scale)
        px = (c0 + 0.5 - left) / scale
        for r in range(r0, r1):
            py = (bottom - r - 0.5) / scale
            ox = (view[0, 0] * px + view[1, 0] * py - cx) / rx
            oy = (view[0, 1] * px + view[1, 1] * py - cy) / ry
            oz = (view[0, 2] * px + view[1, 2] * py - cz) / rz
            for c in range(c0, c1):
                b = ox * ux + oy * uy + oz * uz
                disc = b * b - a * (ox * ox + oy * oy + oz * oz - 1.0)
                if disc > 0.0:
                    z = (math.sqrt(disc) - b) / a
                    if z > depth[r, c]:
                        depth[r, c] = z
                        owner[r, c] = k
                ox, oy, oz = ox + stepx, oy + stepy, oz + stepz


@njit(cache=True, nogil=True)
def _second_share(pattern, size, line, x, y, z, along):  # type: ignore[no-untyped-def]
    """How much of a cloth's second colour shows at a body point; `along` is negative off the limbs."""
    trunk = along < 0.0
    if pattern == 1:
        return 1.0 if math.floor(y / size) % 2 == 0 else 0.0
    if pattern == 2:
        return 1.0 if math.floor(1.4 * x / size + 50.0) % 2 == 0 else 0.0
    if pattern == 3:
        h = 0.5 if math.floor(y / size) % 2 == 0 else 0.0
        v = 0.5 if math.floor(x / size + 50.0) % 2 == 0 else 0.0
        return h + v
    if pattern == 4:
        return 1.0 if (trunk and y < line) or along > 0.55 else 0.0
    if pattern == 5:
        return 1.0 if trunk and z > 0.0 and abs(x) < size and abs(y - line) < 0.7 * size else 0.0
    if pattern == 6:
        return 1.0 if trunk and z > 0.0 and abs(x) < size + 0.1 * max(0.0, y - 0.66) else 0.0
    if pattern == 7:
        return 1.0 if math.sin(71.0 * x + 23.0 * y) + math.sin(63.0 * y - 31.0 * x + 40.0 * z) > 0.5 else 0.0
    if pattern == 8:
        return 1.0 if abs(z) < 0.012 and abs(x) > 0.06 else 0.0
    if pattern == 9:
        return 1.0 if trunk and z < 0.0 and abs(x) < size and abs(y - line) < 0.5 * size else 0.0
    return 0.0


@njit(cache=True, nogil=True)
def _shade(parts, materials, view, light, ambient, scale, left, bottom, depth, owner, fold, out):  # type: ignore[no-untyped-def]
    """Light every pixel and average SUPERSAMPLING x SUPERSAMPLING of them into `out` [h, w, 4] (premultiplied RGB, alpha)."""
    height, width = depth.shape
    ss = height // out.shape[0]
    weight = 1.0 / (ss * ss)
    for r in range(height):
        for c in range(width):
            k = owner[r, c]
            if k < 0:
                continue
            px, py, pz = (c + 0.5 - left) / scale, (bottom - r - 0.5) / scale, depth[r, c]
            x = view[0, 0] * px + view[1, 0] * py + view[2, 0] * pz
            y = view[0, 1] * px + view[1, 1] * py + view[2, 1] * pz
            z = view[0, 2] * px + view[1, 2] * py + view[2, 2] * pz
            nx = (x - parts[k, 0]) / parts[k, 3] ** 2
            ny = (y - parts[k, 1]) / parts[k, 4] ** 2
            nz = (z - parts[k, 2]) / parts[k, 5] ** 2
            if parts[k, 7] == SLICE:
                ny *= 0.15
            norm = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
            nx, ny, nz = nx * norm, ny * norm, nz * norm
            m = materials[int(parts[k, 6])]
            share = _second_share(int(m[6]), m[7], m[8], x, y, z, parts[k, 7])
            red = m[0] + share * (m[3] - m[0])
            green = m[1] + share * (m[4] - m[1])
            blue = m[2] + share * (m[5] - m[2])
            straps = int(m[9])
            if straps > 0 and parts[k, 7] < 0.0:
                band = abs(abs(x) - 0.058) < 0.011 and z > -0.01 and y > 0.62
                if straps == 2:
                    band = abs((y - 0.69) - 1.05 * x) < 0.014
                if band:
                    red, green, blue = m[10], m[11], m[12]
            # Camera-frame normal against the light; folds in the cloth and the dark seam behind a nearer limb.
            lx = view[0, 0] * nx + view[0, 1] * ny + view[0, 2] * nz
            ly = view[1, 0] * nx + view[1, 1] * ny + view[1, 2] * nz
            lz = view[2, 0] * nx + view[2, 1] * ny + view[2, 2] * nz
            lit = ambient + (1.0 - ambient) * max(0.0, lx * light[0] + ly * light[1] + lz * light[2])
            lit *= 0.82 + 0.18 * max(0.0, lz)
            lit *= 1.0 + 0.07 * math.sin(31.0 * y + 11.0 * x + fold) * math.sin(25.0 * x - 9.0 * y + 17.0 * z + 2.0 * fold)
            near = pz
            for dr, dc in ((0, 2), (0, -2), (-2, 0), (2, 0)):
                rr, cc = r + dr, c + dc
                if 0 <= rr < height and 0 <= cc < width and owner[rr, cc] >= 0:
                    near = max(near, depth[rr, cc])
            if near - pz > 0.03:
                lit *= 0.72
            rr, cc = r // ss, c // ss
            out[rr, cc, 0] += weight * lit * red
            out[rr, cc, 1] += weight * lit * green
            out[rr, cc, 2] += weight * lit * blue
            out[rr, cc, 3] += weight


def render(
    parts_N8: np.ndarray,
    materials_M13: np.ndarray,
    view_33: np.ndarray,
    *,
    size: tuple[int, int],
    scale: float,
    left: float,
    bottom: float,
    light_3: np.ndarray,
    ambient: float,
    fold: float,
) -> np.ndarray:
    """Draw a figure: [height, width, 4] float32, premultiplied RGB and coverage in [0, 1].

    `size` is (height, width) in pixels, `scale` pixels per body height, (`left`, `bottom`) the pixel of the body's origin,
    `light_3` a unit vector in the camera frame, `ambient` the share of light from everywhere, `fold` a phase of the creases.
    """
    ss = SUPERSAMPLING
    height, width = size
    depth = np.full((height * ss, width * ss), -1e9)
    owner = np.full((height * ss, width * ss), -1, np.int32)
    out = np.zeros((height, width, 4), np.float32)
    _splat(parts_N8, view_33, height * ss, width * ss, scale * ss, left * ss, bottom * ss, depth, owner)
    _shade(parts_N8, materials_M13, view_33, light_3, ambient, scale * ss, left * ss, bottom * ss, depth, owner, fold, out)
    return out

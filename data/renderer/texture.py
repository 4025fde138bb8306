"""The painted skin: melanin, blood, lips, brows, lash line, stubble, freckles, creases, the scalp under the hair.

Everything is painted as a function of the position on the reference head (mm, origin between the eyes), so that the
paint follows the geometry of every person and expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from .head import Head
from .identity import Identity
from .landmarks import BROW, EYE

TEXELS_PER_UV = 1024
WINDOW = (0.60, 1.0, 0.12, 0.90)  # u from, u to, v from, v to: the head's island of the base mesh's chart
# sRGB skin tones from palest to darkest
TONES = np.array(
    [(243, 210, 188), (229, 188, 158), (208, 160, 126), (176, 124, 90), (132, 88, 62), (92, 60, 44), (62, 42, 34)]
)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB 0..1 to linear 0..1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


@dataclass
class Chart:
    """Where each texel lies on the reference head. position: H, W, 3 (NaN outside). lips: H, W, 0..1."""

    position: np.ndarray
    lips: np.ndarray

    def uv(self, uv: np.ndarray) -> np.ndarray:
        """The base mesh's texture coordinates (..., 2) in this chart, 0..1, v down as Mitsuba reads it."""
        u0, u1, v0, v1 = WINDOW
        return np.stack([(uv[..., 0] - u0) / (u1 - u0), (v1 - uv[..., 1]) / (v1 - v0)], -1)


def make_chart(head: Head) -> Chart:
    """Rasterises the skin triangles of the head's island into the texture."""
    u0, u1, v0, v1 = WINDOW
    width, height = round((u1 - u0) * TEXELS_PER_UV), round((v1 - v0) * TEXELS_PER_UV)
    position = np.full((height, width, 3), np.nan, np.float32)
    keep = ~head.skin_is_cavity & (head.skin_uv[..., 0].min(1) > u0) & (head.skin_uv[..., 0].max(1) < u1)
    keep &= (head.skin_uv[..., 1].min(1) > v0) & (head.skin_uv[..., 1].max(1) < v1)
    corners_uv = head.skin_uv[keep] - (u0, v0)
    corners_px = np.stack([corners_uv[..., 0] * TEXELS_PER_UV, height - corners_uv[..., 1] * TEXELS_PER_UV], -1) - 0.5
    corners_xyz = head.reference[head.faces["skin"][keep]]
    for pixel, xyz in zip(corners_px, corners_xyz, strict=True):
        low, high = np.floor(pixel.min(0)).astype(int) - 1, np.ceil(pixel.max(0)).astype(int) + 2
        low, high = np.maximum(low, 0), np.minimum(high, (width, height))
        xs, ys = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        edges = np.stack([pixel[1] - pixel[0], pixel[2] - pixel[0]], 1)
        if abs(np.linalg.det(edges)) < 1e-9:
            continue
        bc = np.stack([xs - pixel[0, 0], ys - pixel[0, 1]], -1) @ np.linalg.inv(edges).T
        weights = np.concatenate([1 - bc.sum(-1, keepdims=True), bc], -1)
        inside = weights.min(-1) > -0.35 / max(1.0, np.sqrt(abs(np.linalg.det(edges))) / 4)
        position[ys[inside], xs[inside]] = (weights[inside] @ xyz).astype(np.float32)
    mask = head.lips_uv_mask.astype(np.float32) / 255
    size = len(mask)
    rows = ((1 - v1 + (np.arange(height) + 0.5) / TEXELS_PER_UV) * size).astype(int)
    columns = ((u0 + (np.arange(width) + 0.5) / TEXELS_PER_UV) * size).astype(int)
    return Chart(position, gaussian_filter(mask, 1.5)[np.ix_(rows, columns)])


def _blob(p: np.ndarray, centre: tuple[float, float, float], radius: tuple[float, float, float] | float) -> np.ndarray:
    return np.exp(-0.5 * (((p - np.array(centre)) / np.array(radius)) ** 2).sum(-1))


def _mirror(p: np.ndarray) -> np.ndarray:
    return np.concatenate([np.abs(p[..., :1]), p[..., 1:]], -1)


def _distance(p: np.ndarray, line: np.ndarray, reach: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Distance of points (N, 2) from a polyline (n, 2) and how far along it (0..1); 99 beyond `reach` mm of its box."""
    best, along = np.full(len(p), 99.0, np.float32), np.zeros(len(p), np.float32)
    near = np.flatnonzero(((p > line.min(0) - reach) & (p < line.max(0) + reach)).all(1))
    if not len(near):
        return best, along
    d = np.diff(line, axis=0)
    lengths = np.linalg.norm(d, axis=1)
    start = np.concatenate([[0], np.cumsum(lengths)]) / lengths.sum()
    offset = p[near, None] - line[None, :-1]  # points, segments, 2
    t = np.clip((offset * d).sum(-1) / (lengths**2), 0, 1)
    square = ((offset - t[..., None] * d) ** 2).sum(-1)
    k = square.argmin(1)
    rows = np.arange(len(near))
    best[near] = np.sqrt(square[rows, k])
    along[near] = start[k] + t[rows, k] * (start[k + 1] - start[k])
    return best, along


def _smooth_curve(points: np.ndarray, samples: int = 9) -> np.ndarray:
    from scipy.interpolate import CubicSpline

    t = np.linspace(0, 1, len(points))
    return CubicSpline(t, points)(np.linspace(0, 1, samples))


def _step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def hairline(p: np.ndarray, receding: float) -> np.ndarray:
    """Height in mm above the hairline of points (..., 3) of the reference head; positive on the scalp."""
    phi = np.degrees(np.arctan2(np.abs(p[..., 0]), p[..., 2] + 78))
    knots = ((0, 60), (22, 61), (38, 60), (48, 52), (58, 30), (66, 6), (76, -18), (84, -22), (92, 12), (112, 14),
             (128, -40), (140, -72), (180, -76))  # fmt: skip
    line = np.interp(phi, *zip(*knots, strict=True))
    line = line + receding * np.interp(phi, (0, 18, 34, 52, 62), (0.8, 1.0, 1.5, 0.8, 0))
    return p[..., 1] - line


def paint(chart: Chart, who: Identity) -> np.ndarray:
    """H, W, 3 linear reflectance of the skin of `who` at rest."""
    rng = np.random.default_rng(who.seed)
    valid = np.isfinite(chart.position[..., 0])
    p, lips = chart.position[valid], chart.lips[valid]  # N, 3 and N
    q = _mirror(p)  # left and right halves share their paint
    x, y, z = q[..., 0], q[..., 1], q[..., 2]
    front = _step(z, -40, 0)

    def noise(sigma: float) -> np.ndarray:
        step = max(1, int(sigma / 1.5))  # coarse noise is made on a coarse grid
        shape = [-(-n // step) + 1 for n in valid.shape]
        field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma / step, truncate=3)
        rows, columns = np.nonzero(valid)
        field = (
            field[rows // step, columns // step]
            if step == 1
            else map_coordinates(field, np.stack([rows, columns]) / step, order=1)
        )
        return field / field.std()

    tones = to_linear(TONES / 255.0)
    at = who.tone * (len(TONES) - 1)
    skin = np.stack([np.interp(at, np.arange(len(TONES)), tones[:, c]) for c in range(3)])
    undertone = np.array((1, 1 + 0.05 * rng.normal(), 1 + 0.09 * rng.normal() - 0.06 * who.ancestry[1]))
    mottle = 1 + 0.035 * noise(9) + 0.03 * noise(3) + 0.035 * noise(1.0)
    colour = (skin * undertone) * mottle[..., None]

    # blood near the surface: cheeks, nose tip, ears, chin, lids
    blood = 0.85 * _blob(q, (38, -38, 10), (17, 14, 25)) + 0.7 * _blob(q, (0, -40, 42), (12, 10, 14))
    blood += 0.35 * _blob(q, (0, -100, 25), (14, 9, 20)) + 0.5 * _blob(q, (74, -20, -55), (14, 30, 30))
    blood += 0.45 * _blob(q, (31, 0, 15), (20, 9, 25)) + 0.1 * noise(6) * front
    amount = (0.06 + 0.20 * who.redness) * (1.1 - 0.75 * who.tone)
    colour *= 1 - np.clip(amount * blood, 0, 0.6)[..., None] * np.array((0.18, 0.85, 0.75))
    # shade under the eyes and in the lid fold
    tired = (0.10 + 0.14 * (who.age > 45) + 0.10 * rng.random()) * _blob(q, (29, -12.5, 12), (13, 3.6, 20))
    fold = 0.22 * _blob(q, (32, 6.5, 15), (15, 2.2, 25)) + 0.16 * _blob(q, (20, -3, 12), (3.5, 5, 20))
    colour *= 1 - (tired + fold)[..., None] * np.array((0.8, 1.0, 0.9))
    shadow = who.eye_makeup * 0.55 * _blob(q, (33, 6.5, 15), (15, 4.0, 25))
    shade = np.array(((0.25, 0.14, 0.10), (0.12, 0.10, 0.14), (0.3, 0.15, 0.16))[rng.integers(3)])
    colour += shadow[..., None] * (shade * skin / skin.max() - colour)

    if who.freckles > 0.02:
        spots = np.clip(noise(0.9) - (2.1 - 0.9 * who.freckles), 0, 1)
        spots *= _blob(q, (24, -26, 20), (30, 17, 30)) + 0.2 * front
        colour *= 1 - np.clip(spots, 0, 0.6)[..., None] * np.array((0.45, 0.75, 0.9))
    for _ in range(rng.poisson(1.2)):
        mole = _blob(p, (rng.uniform(-55, 55), rng.uniform(-95, 50), 15), (1.1, 1.1, 60))
        colour *= 1 - 0.65 * mole[..., None]
    if who.age > 55:
        patches = np.clip(noise(2.2) - 1.7, 0, 1) * front
        colour *= 1 - 0.35 * patches[..., None] * np.array((0.6, 0.85, 1.0))

    # beard and stubble: jaw, chin, upper lip
    mouth_up = _step(-y, 55, 62) * (1 - _step(np.abs(x), 20, 30)) * _step(z, 5, 20)
    jaw = _step(-y, 70 - 0, 92) + _step(x, 44, 58) * _step(-y, 26, 55)
    jaw = np.clip(jaw, 0, 1) * (1 - _step(-y, 118, 150)) * _step(z + 0.25 * (y + 60), -72, -52)
    around = _step(x, 20, 30) * _step(-y, 60, 74)
    shapes = {"moustache": mouth_up, "goatee": np.maximum(mouth_up, _step(-y, 80, 90) * (1 - _step(x, 22, 32)))}
    region = np.clip(shapes.get(who.beard_shape, np.maximum(np.maximum(mouth_up, jaw), around * 0.9)), 0, 1) * (z > -75)
    region *= 1 - lips
    grain = np.clip(0.75 + 0.35 * noise(0.7), 0, 1.3)
    density = np.clip(region * who.beard * grain * (1.15 if who.beard > 0.6 else 0.75), 0, 0.97)
    beard_colour = np.array(who.brow_colour) if who.beard < 0.6 else 0.5 * (np.array(who.hair_colour) + who.brow_colour)
    colour += density[..., None] * (beard_colour - colour)

    # lips
    lip = np.clip(lips, 0, 1) * (0.9 - 0.3 * _step(np.abs(x), 18, 26))
    natural = skin * np.array((0.86, 0.50, 0.52)) if who.tone < 0.55 else skin * np.array((0.85, 0.62, 0.66))
    paints = np.array(((0.42, 0.03, 0.05), (0.40, 0.10, 0.12), (0.28, 0.04, 0.09), (0.45, 0.16, 0.14)))
    lipstick = paints[rng.integers(len(paints))]
    lip_colour = natural + who.lipstick * 0.8 * (lipstick * (1.0 - 0.35 * who.tone) - natural)
    colour += (
        lip[..., None]
        * (0.85 if who.sex == "male" else 1.0)
        * (lip_colour * (1 + 0.06 * noise(1.2))[..., None] - colour)
    )

    # brows: a tapering band of strands
    curve = _smooth_curve(np.array(BROW) + (0, who.brow_height))
    distance, along = _distance(q[..., :2], curve)
    half_width = (2.0 + 2.3 * who.brow_weight) * np.interp(along, (0, 0.12, 0.5, 1), (0.65, 1.0, 0.85, 0.25))
    strands = noise(0.8)
    edge = distance + 0.7 * strands
    brow = (1 - _step(edge, half_width - 1.2, half_width + 0.9)) * np.interp(
        along, (0, 0.1, 0.8, 1), (0.7, 1.0, 1.0, 0.6)
    )
    brow *= (0.62 + 0.36 * who.brow_weight) * (z > -25) * np.clip(0.92 + 0.12 * strands, 0, 1)
    colour += np.clip(brow, 0, 0.97)[..., None] * (np.array(who.brow_colour) - colour)

    # the root line of the lashes
    inner, upper_in, upper_out, outer, lower_out, lower_in = (np.array(e) for e in EYE)
    upper, _ = _distance(q[..., :2], _smooth_curve(np.stack([inner + (0.5, 0), upper_in, upper_out, outer])))
    lower, _ = _distance(q[..., :2], _smooth_curve(np.stack([inner, lower_in, lower_out, outer])))
    liner = (0.75 + 0.2 * who.eye_makeup) * (1 - _step(upper, 0.7, 1.9 + 0.7 * who.eye_makeup))
    liner = np.maximum(liner, (0.30 + 0.4 * who.eye_makeup) * (1 - _step(lower, 0.3, 1.5))) * (z > 0)
    colour += liner[..., None] * (np.array((0.02, 0.014, 0.012)) - colour)

    # scalp under the hair
    height = hairline(p, who.hairline)
    cover = _step(height + 2.5 * noise(2.5), -3, 5) * {"bald": 0.16, "buzz": 0.80}.get(who.hair_style, 0.93)
    if who.hair_style == "bald":
        cover *= 1 - _step(p[..., 1], 40, 70)
    cover *= ~((np.abs(p[..., 0]) > 66) & (p[..., 1] < 8) & (p[..., 2] > -95) & (p[..., 2] < -45))  # ears
    colour += cover[..., None] * (np.array(who.hair_colour) * 0.8 - colour)
    picture = np.zeros((*valid.shape, 3), np.float32)
    picture[:] = skin  # the margin of the chart, seen by the filter only
    picture[valid] = np.clip(colour, 0.003, 0.95)
    return picture


def crease(picture: np.ndarray, chart: Chart, who: Identity, units: dict[int, float]) -> np.ndarray:
    """The painted skin with the lines that age and the action units (FACS number -> intensity) fold into it."""
    with np.errstate(invalid="ignore"):
        q = _mirror(chart.position)
        valid = (q[..., 2] > -30) & (q[..., 1] > -102) & (q[..., 1] < 56) & (q[..., 0] < 66)
    q = q[valid]
    age = np.clip((who.age - 30) / 45, 0, 1)
    depth = 0.34 - 0.10 * who.tone
    get = lambda unit: min(units.get(unit, 0.0), 1.1)  # noqa: E731
    dark = np.zeros(len(q), np.float32)

    def line(points: tuple[tuple[float, float], ...], strength: float, width: float) -> None:
        nonlocal dark
        if strength < 0.04:
            return
        distance, along = _distance(q[..., :2], _smooth_curve(np.array(points, float)), 4.0)
        fade = np.interp(along, (0, 0.15, 0.8, 1), (0.3, 1, 1, 0))
        dark = np.maximum(dark, strength * fade * np.exp(-0.5 * (distance / width) ** 2))

    raised = max(get(1), get(2))
    for k, height in enumerate((33, 41, 49)):
        wave = 1.6 * np.sin(1.3 * k)
        reach = 40 if get(2) > 0.3 else 24
        line(((0, height + wave), (reach * 0.5, height + 1.5), (reach, height - 2)), 0.9 * raised + 0.55 * age, 1.0)
    line(((5, 8), (5.5, 14), (4.5, 21), (5, 27)), 1.0 * get(4) + 0.35 * age, 1.1)
    line(((0, 3), (5, 4.5), (9, 4)), 0.7 * get(4) + 0.6 * get(9), 1.0)
    for start, end in (((3, -10), (11, -16)), ((4, -4), (11, -9)), ((2, 2), (9, -2))):
        line((start, tuple((np.array(start) + end) / 2), end), 0.9 * get(9), 0.9)
    fold = 0.75 * max(get(12), 0.8 * get(9), 0.7 * get(10), 0.5 * get(20)) + 0.45 * age + 0.08
    line(((17, -43), (23, -52), (29, -63), (33, -74)), fold, 1.5)
    for slope in (7, 1, -5):
        line(((50, -1), (56, -1 + slope * 0.5), (63, slope)), 0.6 * get(6) + 0.45 * age, 0.8)
    line(((20, -9), (30, -14), (42, -11)), 0.45 * max(get(6), get(7)) + 0.35 * age, 1.0)
    line(((27, -78), (30, -85), (30, -93)), 0.7 * get(15) + 0.35 * age, 1.2)
    line(((0, -93), (9, -93.5), (16, -97)), 0.55 * max(get(15), get(17)) + 0.1, 1.4)
    picture = picture.copy()
    picture[valid] *= 1 - np.clip(depth * 1.5 * dark, 0, 0.6)[..., None] * np.array((0.8, 1.0, 1.0), np.float32)
    return picture

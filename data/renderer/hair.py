"""Scalp hair as a few thousand ribbons grown over the head, one style of combing per identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .identity import Identity
from .texture import hairline


@dataclass(frozen=True)
class Style:
    """count ribbons of `length` mm and `width` mm; lift, curl and gravity weigh against the combing direction."""

    count: int
    length: tuple[float, float]
    width: float
    lift: float
    curl: float
    gravity: float
    comb: str
    steps: int = 7


STYLES = {
    "short": Style(2852, (12, 26), 2.2, 0.30, 0.32, 0.15, "crown"),
    "parted": Style(2604, (40, 75), 2.6, 0.22, 0.18, 0.35, "part"),
    "swept": Style(2604, (30, 55), 2.5, 0.55, 0.22, 0.10, "back"),
    "fringe": Style(3224, (70, 190), 3.0, 0.16, 0.10, 0.75, "fringe", 10),
    "long": Style(3224, (150, 230), 3.2, 0.16, 0.14, 0.75, "part", 11),
    "tied": Style(2604, (60, 90), 2.6, 0.06, 0.08, 0.0, "back", 8),
    "afro": Style(4030, (16, 44), 2.3, 1.0, 1.2, 0.0, "none", 6),
    "buzz": Style(1612, (2.5, 5), 1.4, 0.8, 0.6, 0.0, "crown", 3),
    "bald": Style(0, (1, 1), 1.3, 0.5, 0.5, 0.0, "none", 3),
}


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    face_normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], face_normal)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / (np.linalg.norm(v, axis=-1, keepdims=True) + 1e-9)


def _comb(kind: str, p: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Direction (N, 3) in which the style combs hair at points p; side (N) is -1 or 1, off the parting."""
    if kind == "part":
        top = np.clip((p[:, 1] - 25) / 65, 0, 1)
        return _unit(np.stack([side * (0.95 * top - 0.1), 0.7 * top - 1, np.where(p[:, 2] > -60, -0.25, -0.3)], 1))
    if kind == "fringe":
        front = (p[:, 2] > -55) & (np.abs(p[:, 0]) < 48)
        forward = np.stack([0.25 * side, np.full(len(p), -0.1), np.ones(len(p))], 1)
        down = np.stack([side * 0.5, np.full(len(p), -0.8), np.full(len(p), -0.1)], 1)
        return _unit(np.where(front[:, None], forward, down))
    if kind == "back":
        return _unit(np.stack([0.05 * p[:, 0] / 60, np.full(len(p), 0.15), np.full(len(p), -1.0)], 1))
    if kind == "crown":
        out = p - np.array((0, 95, -95))
        return _unit(out * (1, 1, 1) + np.array((12.0, 0, 25)))
    return np.zeros_like(p)


def grow(vertices: np.ndarray, reference: np.ndarray, skin: np.ndarray, who: Identity) -> tuple[np.ndarray, ...] | None:
    """Ribbons on a head of K, 3 vertices: vertices N, 3, triangles M, 3 and linear colours N, 3; None without hair."""
    style = STYLES[who.hair_style]
    if not style.count:
        return None
    rng = np.random.default_rng(who.seed + 1)
    centre = reference[skin].mean(1)
    height = hairline(centre, who.hairline)
    scalp = (height > -3) & ~(
        (np.abs(centre[:, 0]) > 68) & (centre[:, 1] < 6) & (centre[:, 2] > -100) & (centre[:, 2] < -45)
    )
    triangles = skin[scalp]
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    area = area * np.where(centre[scalp, 2] > -80, 1.7, 0.7)  # denser where the camera looks
    chosen = rng.choice(len(triangles), style.count, p=area / area.sum())
    bary = rng.dirichlet((1, 1, 1), style.count)
    root = (corners[chosen] * bary[..., None]).sum(1)
    root_reference = (reference[triangles[chosen]] * bary[..., None]).sum(1)
    inside = hairline(root_reference, who.hairline) + rng.normal(0, 2.5, style.count) > 0
    root, root_reference = root[inside], root_reference[inside]

    normals = _normals(vertices, skin)
    used = np.unique(skin)
    tree = cKDTree(vertices[used])
    part = float(rng.choice((-22.0, 20.0, 0.0))) + rng.normal(0, 3)
    n = len(root)
    length = rng.uniform(*style.length, n) * rng.uniform(0.85, 1.1)
    if who.hair_style == "fringe":  # the front is cut above the brows
        front = (root_reference[:, 2] > -55) & (np.abs(root_reference[:, 0]) < 48)
        length = np.where(front, (root_reference[:, 1] - rng.uniform(24, 34, n)).clip(18, 75), length)
    clump = rng.normal(size=(12, 3))
    node, nodes, sides = root.copy(), [root], []
    side = np.sign(root_reference[:, 0] - part)
    wobble = rng.normal(size=(n, 3)) * 0.5 + clump[(rng.integers(0, 12, n))] * 0.35
    reach = {"short": 5, "swept": 7, "parted": 6, "fringe": 6, "long": 7, "tied": 2.0, "afro": 2, "buzz": 0.8}[
        who.hair_style
    ]
    for k in range(style.steps):
        _, near = tree.query(node)
        normal = normals[used[near]]
        age = k / style.steps
        direction = (
            _comb(style.comb, node, side)
            + style.lift * normal * (1.6 - 1.4 * age)
            + style.gravity * age * np.array((0, -1.6, 0))
        )
        direction = direction + style.curl * (wobble + 0.8 * rng.normal(size=(n, 3)))
        direction = _unit(direction)
        clearance = ((node - vertices[used[near]]) * normal).sum(1)
        inward = (direction * normal).sum(1)
        limit = np.clip((clearance - reach * 0.5) / 6.0, 0, 1) * -1.0
        direction = _unit(direction + np.maximum(limit - inward, 0)[:, None] * normal)
        node = node + direction * (length / style.steps)[:, None]
        _, near = tree.query(node)
        out = ((node - vertices[used[near]]) * normals[used[near]]).sum(1)
        least = reach * min(1.0, (k + 1) / 2.0) * (0.6 + 0.8 * ((np.arange(n) * 0.618) % 1))
        node = node + np.maximum(least - out, 0)[:, None] * normals[used[near]]
        if style.comb == "part":  # combed behind the cheeks, not over the face
            beside = (
                np.interp(node[:, 1], (25, 62), (1, 0)) * (56 + 16 * ((np.arange(n) * 0.755) % 1)) * (node[:, 2] > -55)
            )
            node[:, 0] = side * np.maximum(side * node[:, 0], beside)
        nodes.append(node)
        sides.append(np.cross(direction, normals[used[near]]))
    sides = np.stack([sides[0], *sides], 1)  # N, steps + 1, 3
    sides = _unit(sides + 0.35 * rng.normal(size=(n, 1, 3)))
    line = np.stack(nodes, 1)
    taper = np.interp(np.linspace(0, 1, style.steps + 1), (0, 0.6, 1), (1, 0.9, 0.25))[None, :, None] * style.width / 2
    points = np.stack([line - sides * taper, line + sides * taper], 2).reshape(-1, 3)
    base = (np.arange(n) * (style.steps + 1) * 2)[:, None] + np.arange(style.steps) * 2
    quads = np.stack([base, base + 1, base + 3, base + 2], -1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    shade = np.exp(rng.normal(0, 0.22, n))
    shine = np.linspace(0.72, 1.15, style.steps + 1)
    colours = np.array(who.hair_colour) * shade[:, None, None] * shine[None, :, None]
    if who.age > 42:
        white = rng.random(n) < np.clip((who.age - 42) / 60, 0, 0.4)
        colours[white] = np.array((0.35, 0.34, 0.33)) * shine[:, None]
    return points, faces, np.repeat(colours.clip(0, 0.9), 2, axis=1).reshape(-1, 3)

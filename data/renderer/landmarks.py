"""The 68 points of the 300-W mark-up (Sagonas et al., ICCV-W 2013), placed on the reference head, moved by the mesh."""

from __future__ import annotations

import numpy as np

# Millimetres on the reference head: the subject's left half, from the outer points inwards; the right half mirrors it.
JAW = (
    (71, 0, -30),
    (70, -20, -35),
    (67, -40, -38),
    (62, -60, -35),
    (55, -79, -25),
    (45, -95, -12),
    (32, -107, 0),
    (17, -113, 11),
)
CHIN = (0, -115, 17)
BROW = ((12, 14), (21, 19), (31, 21.5), (42, 20), (51.5, 14.5))  # from the nose outwards
BRIDGE = ((0, 1), (0, -12), (0, -25), (0, -39))
NOSE_BASE = ((0, -50), (6.5, -49), (13.5, -46.5))
# inner corner, upper lid, outer corner, lower lid, the order of points 42..47
EYE = ((19.6, -3.2), (27.5, 3.0), (38, 2.8), (45.6, -1.2), (38, -6.0), (27.5, -6.2))
OUTER_LIP = ((25.2, -73.8), (12.5, -63.4), (4.5, -62.6), (0, -63.4), (13.5, -83.5), (6.5, -85.3), (0, -85.8))
INNER_LIP = ((22.8, -73.6), (10, -71.6), (0, -72.0), (10, -75.2), (0, -75.2))


def _layout() -> list[tuple[tuple[float, ...], bool]]:
    """68 targets as (point, take the mirror image?) in 300-W order; the first jaw point is on the subject's right."""
    right, left = (lambda p: (p, True)), (lambda p: (p, False))
    inner_eye, upper_in, upper_out, outer_eye, lower_out, lower_in = EYE
    corner, up_out, up_in, up, down_out, down_in, down = OUTER_LIP
    in_corner, in_up_side, in_up, in_down_side, in_down = INNER_LIP
    points = [right(p) for p in JAW] + [left(CHIN)] + [left(p) for p in reversed(JAW)]
    points += [right(p) for p in reversed(BROW)] + [left(p) for p in BROW] + [left(p) for p in BRIDGE]
    points += [right(NOSE_BASE[2]), right(NOSE_BASE[1]), left(NOSE_BASE[0]), left(NOSE_BASE[1]), left(NOSE_BASE[2])]
    points += [right(p) for p in (outer_eye, upper_out, upper_in, inner_eye, lower_in, lower_out)]
    points += [left(p) for p in (inner_eye, upper_in, upper_out, outer_eye, lower_out, lower_in)]
    points += [right(corner), right(up_out), right(up_in), left(up), left(up_in), left(up_out), left(corner)]
    points += [left(down_out), left(down_in), left(down), right(down_in), right(down_out)]
    points += [right(in_corner), right(in_up_side), left(in_up), left(in_up_side), left(in_corner)]
    return points + [left(in_down_side), left(in_down), right(in_down_side)]


def place(reference: np.ndarray, skin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """68, 3 vertex numbers and 68, 3 barycentric weights of the points on the reference's outer skin triangles."""
    corners = reference[skin]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = normal[:, 2] > 0
    centre = corners.mean(1)
    vertices, weights = [], []
    for point, mirrored in _layout():
        target = np.array(point, float) * ((-1, 1, 1)[: len(point)] if mirrored else 1)
        if len(target) == 3:
            best = skin.ravel()[np.argmin(((corners - target) ** 2).sum(-1))]
            vertices.append([best] * 3)
            weights.append([1.0, 0.0, 0.0])
            continue
        a, b, c = corners[:, 0, :2], corners[:, 1, :2], corners[:, 2, :2]
        area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
        area = np.where(np.abs(area) < 1e-9, np.nan, area)
        v = ((target[0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (target[1] - a[:, 1])) / area
        w = ((b[:, 0] - a[:, 0]) * (target[1] - a[:, 1]) - (target[0] - a[:, 0]) * (b[:, 1] - a[:, 1])) / area
        inside = facing & (np.minimum(np.minimum(v, w), 1 - v - w) >= -1e-6)
        if inside.any():
            best = np.flatnonzero(inside)[np.argmax(centre[inside, 2])]
            vertices.append(skin[best])
            weights.append([1 - v[best] - w[best], v[best], w[best]])
        else:  # inside the eye or mouth opening: the nearest lid or lip vertex
            near = skin[facing].ravel()
            best = near[np.argmin(((reference[near, :2] - target) ** 2).sum(-1) - (reference[near, 2] > 0) * 1e-3)]
            vertices.append([best] * 3)
            weights.append([1.0, 0.0, 0.0])
    return np.array(vertices), np.array(weights)


def follow(vertices: np.ndarray, placed: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """68, 3 positions of the placed points on a deformed head of K, 3 vertices."""
    index, weight = placed
    return (vertices[index] * weight[..., None]).sum(1)

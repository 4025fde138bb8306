"""What a face wears or is partly hidden by: spectacles, sunglasses, a hand, a cup, a scarf; and the ball of the eye."""

from __future__ import annotations

import numpy as np

Mesh = tuple[np.ndarray, np.ndarray]  # vertices N, 3 in millimetres; triangles M, 3


def merge(parts: list[Mesh]) -> Mesh:
    """One mesh of several."""
    offset, vertices, faces = 0, [], []
    for v, f in parts:
        vertices.append(v)
        faces.append(f + offset)
        offset += len(v)
    return np.concatenate(vertices), np.concatenate(faces)


def tube(line: np.ndarray, radius: np.ndarray | float, sides: int = 8, closed: bool = False) -> Mesh:
    """A tube around a line of n points with n radii (or one)."""
    n = len(line)
    radius = np.broadcast_to(np.asarray(radius, float), n)
    tangent = np.roll(line, -1, 0) - np.roll(line, 1, 0) if closed else np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    up = np.array((0.13, 0.31, 0.94)) if abs(tangent[:, 2]).mean() < 0.8 else np.array((0.1, 0.99, 0.1))
    a = np.cross(tangent, up)
    a /= np.linalg.norm(a, axis=1, keepdims=True) + 1e-9
    b = np.cross(tangent, a)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(angle)[None, :, None] * a[:, None] + np.sin(angle)[None, :, None] * b[:, None]
    vertices = (line[:, None] + ring * radius[:, None, None]).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(n if closed else n - 1), np.arange(sides), indexing="ij")
    corner = lambda di, dj: ((i + di) % n * sides + (j + dj) % sides).ravel()  # noqa: E731
    quads = np.stack([corner(0, 0), corner(0, 1), corner(1, 1), corner(1, 0)], 1)
    return vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def capsule(start: np.ndarray, end: np.ndarray, radius: float) -> Mesh:
    """A rounded finger between two points."""
    t = np.concatenate([np.sin(np.linspace(-np.pi / 2, 0, 5)) * radius, np.sin(np.linspace(0, np.pi / 2, 5)) * radius])
    width = np.concatenate([np.cos(np.linspace(-np.pi / 2, 0, 5)), np.cos(np.linspace(0, np.pi / 2, 5))]) * radius
    axis = (end - start) / np.linalg.norm(end - start)
    line = np.concatenate([start + axis * t[:5, None], end + axis * t[5:, None]])
    return tube(line, np.maximum(width, 0.05), 12)


def _frame(eyes: np.ndarray, size: float, squareness: float) -> tuple[np.ndarray, np.ndarray]:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    c, s = np.cos(t), np.sin(t)
    shape = np.stack(
        [np.sign(c) * np.abs(c) ** squareness * 25, np.sign(s) * np.abs(s) ** squareness * 19 - 3, 0 * t], 1
    )
    return tuple(eye * (1.03, 1, 0) + shape * size + np.array((0, 0, 30.0)) for eye in eyes)  # type: ignore[return-value]


def spectacles(eyes: np.ndarray, kind: str, rng: np.random.Generator, bridge_depth: float) -> tuple[Mesh, Mesh]:
    """(frame, lenses) for eyeball centres 2, 3; the bridge of the nose is `bridge_depth` mm in front of them."""
    left, right = _frame(eyes, rng.uniform(0.92, 1.08), rng.uniform(0.6, 1.0))
    shift = np.array((0, 0, bridge_depth - 24.0))
    left, right = left + shift, right + shift
    radius = {"thin": 0.8, "thick": 2.0, "rimless": 0.35, "sun": 1.6}[kind]
    inner_left, inner_right = left[np.argmin(left[:, 0])], right[np.argmax(right[:, 0])]
    middle = (inner_left + inner_right) / 2 + (0, 4, 3)
    parts = [tube(left, radius, closed=True), tube(right, radius, closed=True)]
    parts.append(tube(np.stack([inner_left, middle, inner_right]) + (0, 3, 0), max(radius, 0.9)))
    for rim, sign in ((left, 1), (right, -1)):
        hinge = rim[np.argmax(sign * rim[:, 0])]
        ear = np.array((sign * 76.0, hinge[1] + 2, -75.0))
        parts.append(tube(np.linspace(hinge, ear, 6), max(radius, 1.0)))
    lenses = []
    for rim in (left, right):
        fan = np.stack([np.full(40, 40), np.arange(40), (np.arange(40) + 1) % 40], 1)
        lenses.append((np.concatenate([rim, rim.mean(0, keepdims=True) + (0, 0, 2.0)]), fan))
    return merge(parts), merge(lenses)


def hand(rng: np.random.Generator) -> Mesh:
    """A hand laid on the cheek, over the mouth's corner or at the chin, in face coordinates."""
    sign = rng.choice((-1.0, 1.0))
    spot = ((58, -75, 40), (40, -100, 48), (62, -45, 32))[rng.integers(3)]
    palm = np.array(spot, float) * (sign, 1, 1)
    lean = rng.uniform(0.2, 0.7)
    parts = [capsule(palm + (sign * 15, -60, -5), palm + (sign * 6, -8, 0), 22.0)]
    for k in range(4):
        base = palm + np.array((sign * (14 - 11.0 * k), -2 + 3 * (1 - abs(k - 1.5)), 2))
        tip = base + np.array((-sign * 18 * lean - sign * 2 * k, 30 + 6 * (1 - abs(k - 1.5)), -4))
        parts.append(capsule(base, tip, 7.6 - 0.5 * (k == 3)))
    return merge(parts)


def cup(rng: np.random.Generator) -> Mesh:
    """A cup or a microphone held before the chin."""
    centre = np.array((rng.uniform(-22, 22), -128 + rng.uniform(-8, 12), 70))
    axis = np.stack([centre + (0, -60, 0), centre + (0, 30, 0), centre + (0, 31, 0)])
    wide = rng.uniform(16, 34)
    return tube(axis, np.array((wide * 0.85, wide, 0.1)), 24)


def scarf(rng: np.random.Generator) -> Mesh:
    """A scarf wound round the neck up to the chin."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    parts = []
    for level, wide in ((-135, 1.05), (-158, 1.15)):
        level = level + rng.uniform(-4, 8)
        wave = 4 * np.sin(3 * t + rng.uniform(0, 6))
        line = np.stack([np.sin(t) * 72 * wide, level + wave + 10 * np.cos(t) * -1, np.cos(t) * 76 * wide - 45], 1)
        parts.append(tube(line, 19 + 3 * np.sin(5 * t + rng.uniform(0, 6)), 12, closed=True))
    return merge(parts)


def eyeball(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the sphere through the vertices (N, 3) of an eye, by least squares."""
    a = np.concatenate([2 * points, np.ones((len(points), 1))], 1)
    solution = np.linalg.lstsq(a, (points**2).sum(1), rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.sqrt(solution[3] + centre @ centre))


def eye_mesh(centre: np.ndarray, radius: float, gaze: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, triangles and texture coordinates of a ball whose pole looks along the unit vector `gaze`.

    The texture is a disc: its middle is the pupil, its rim 90 degrees from the gaze.
    """
    rings, sectors = 24, 32
    polar = np.linspace(0, np.pi * 0.6, rings + 1)
    angle = np.linspace(0, 2 * np.pi, sectors, endpoint=False)
    side = np.cross((0, 1, 0), gaze)
    side /= np.linalg.norm(side)
    up = np.cross(gaze, side)
    p, t = np.meshgrid(polar, angle, indexing="ij")
    bulge = radius * (1 + 0.045 * np.exp(-((p / 0.42) ** 4)))
    direction = (
        (np.sin(p) * np.cos(t))[..., None] * side
        + (np.sin(p) * np.sin(t))[..., None] * up
        + np.cos(p)[..., None] * gaze
    )
    vertices = centre + bulge[..., None] * direction
    uv = np.stack([0.5 + p / np.pi * np.cos(t), 0.5 + p / np.pi * np.sin(t)], -1)
    i, j = np.meshgrid(np.arange(rings), np.arange(sectors), indexing="ij")
    corner = lambda di, dj: ((i + di) * sectors + (j + dj) % sectors).ravel()  # noqa: E731
    quads = np.stack([corner(0, 0), corner(1, 0), corner(1, 1), corner(0, 1)], 1)
    return vertices.reshape(-1, 3), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]), uv.reshape(-1, 2)


def eye_texture(
    iris: tuple[float, float, float], pupil: float, white: float, rng: np.random.Generator, size: int = 128
) -> np.ndarray:
    """size, size, 3 linear colours: white, iris with fibres and a dark rim, pupil (its share of the iris).

    white: brightness of the white, 0..1.
    """
    axis = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(axis, -axis)
    degrees = np.hypot(x, y) * 180
    angle = np.arctan2(y, x)
    fibres = sum(np.cos(k * angle + rng.uniform(0, 6.3)) for k in (7, 13, 19, 31)) / 4
    white_colour = white * np.array((1.0, 0.95, 0.91)) - np.clip((degrees - 30) / 60, 0, 1)[..., None] * np.array(
        (0.02, 0.14, 0.14)
    )
    outer = 24.0
    t = np.clip(degrees / outer, 0, 1)
    tint = np.array(iris) * (1 + 0.35 * fibres * (t > pupil))[..., None] * (1.25 - 0.5 * t)[..., None]
    rim = np.clip((t - 0.8) / 0.2, 0, 1)[..., None]
    tint = tint * (1 - 0.75 * rim)
    hole = 1 / (1 + np.exp(-(degrees - pupil * outer) / 0.7))
    tint = tint * hole[..., None] + 0.004
    edge = 1 / (1 + np.exp(-(degrees - outer) / 0.8))[..., None]
    return (tint * (1 - edge) + white_colour * edge).clip(0.002, 0.9).astype(np.float32)

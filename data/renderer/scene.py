"""From an identity, its action units and a seed to a linear picture: the Mitsuba scene of one face."""

from __future__ import annotations

from dataclasses import dataclass, field

import mitsuba as mi
import numpy as np
from scipy.ndimage import gaussian_filter, median_filter

from . import camera, hair, landmarks, props, texture
from .head import Head
from .identity import Identity

mi.set_variant("scalar_rgb")
mi.set_log_level(mi.LogLevel.Error)
RENDER = camera.SIZE
SAMPLES = 12


@dataclass
class Stage:
    """What is the same for all faces: the head, its chart and the places of the landmarks."""

    head: Head
    chart: texture.Chart
    placed: tuple[np.ndarray, np.ndarray]
    outer_skin: np.ndarray  # F, 3: without the cavities of eyes and mouth
    cavity: np.ndarray
    split_vertex: np.ndarray  # vertex number of each (vertex, texture coordinate) pair
    split_uv: np.ndarray
    split_faces: np.ndarray
    _last: dict[int, tuple] = field(default_factory=dict)

    def at_rest(self, who: Identity) -> tuple:
        """Vertices, painted skin and hair of `who` at rest; the last are kept, as the faces of an identity follow."""
        if who.number not in self._last:
            vertices = self.head.neutral(who.phenotype, who.local_changes)
            grown = hair.grow(vertices, self.head.reference, self.outer_skin, who)
            self._last = {who.number: (vertices, texture.paint(self.chart, who), grown)}
        return self._last[who.number]

    @classmethod
    def load(cls) -> Stage:
        """Loads the head and rasterises its chart."""
        head = Head.load()
        chart = texture.make_chart(head)
        outer = head.faces["skin"][~head.skin_is_cavity]
        uv = chart.uv(head.skin_uv[~head.skin_is_cavity])
        keys = np.concatenate([outer.reshape(-1, 1), np.round(uv.reshape(-1, 2) * 1e5)], 1)
        unique, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return cls(
            head, chart, landmarks.place(head.reference, outer), outer, head.faces["skin"][head.skin_is_cavity],
            unique[:, 0].astype(int), uv.reshape(-1, 2)[first], inverse.reshape(-1, 3),
        )  # fmt: skip


def _mesh(vertices: np.ndarray, faces: np.ndarray, bsdf: dict, uv=None, colours=None) -> mi.Mesh:
    properties = mi.Properties()
    properties["mesh_bsdf"] = mi.load_dict(bsdf)
    mesh = mi.Mesh(
        "part",
        len(vertices),
        len(faces),
        props=properties,
        has_vertex_normals=True,
        has_vertex_texcoords=uv is not None,
    )
    if colours is not None:
        mesh.add_attribute("vertex_color", 3, np.asarray(colours, np.float32).ravel())
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = np.asarray(vertices, np.float32).ravel()
    parameters["faces"] = faces.astype(np.uint32).ravel()
    if uv is not None:
        parameters["vertex_texcoords"] = np.asarray(uv, np.float32).ravel()
    parameters.update()
    return mesh


def _part(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The triangles `faces` with only the vertices they use."""
    used, renumbered = np.unique(faces, return_inverse=True)
    return vertices[used], renumbered.reshape(-1, 3)


def _surface(colour, roughness: float = 0.5, specular: float = 0.4) -> dict:
    if isinstance(colour, str):
        base = {"type": "mesh_attribute", "name": colour}
    elif np.ndim(colour) == 3:
        base = {"type": "bitmap", "bitmap": mi.Bitmap(np.ascontiguousarray(colour, np.float32)), "raw": True}
    else:
        base = {"type": "rgb", "value": [float(c) for c in colour]}
    return {
        "type": "twosided",
        "side": {"type": "principled", "base_color": base, "roughness": roughness, "specular": specular},
    }


def _emitter(direction: np.ndarray, radius: float, strength: float, colour: np.ndarray) -> dict:
    """A ball of light 1.5 m away whose irradiance on a surface facing it is pi * strength."""
    distance = 1500.0
    radiance = strength * distance**2 / radius**2 * colour
    return {"type": "sphere", "center": list(direction * distance), "radius": radius,
            "emitter": {"type": "area", "radiance": {"type": "rgb", "value": radiance.tolist()}}}  # fmt: skip


def _lights(rng: np.random.Generator) -> dict[str, dict]:
    azimuth, elevation = rng.normal(0, 38), rng.uniform(0, 58)
    warm = rng.normal(0, 0.12)
    tint = np.array((1 + warm, 1.0, 1 - warm))

    def towards(az: float, el: float) -> np.ndarray:
        az, el = np.radians((az, el))
        return np.array((np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)))

    out = {
        "key": _emitter(towards(azimuth, elevation), rng.uniform(180, 650), rng.uniform(0.5, 1.0), tint),
    }
    aside = towards(-np.sign(azimuth) * rng.uniform(30, 80), rng.uniform(-10, 30))
    out["fill"] = _emitter(aside, 600, rng.uniform(0.05, 0.35), 2 - tint)
    sky = rng.uniform(0.18, 0.5) * (1.5 - 0.5 * tint)
    out["sky"] = {"type": "constant", "radiance": {"type": "rgb", "value": sky.tolist()}}
    if rng.random() < 0.25:
        out["rim"] = _emitter(
            towards(rng.choice((-1, 1)) * rng.uniform(110, 150), rng.uniform(0, 40)), 300, 0.9, 2 - tint
        )
    return out


def _background(rng: np.random.Generator) -> np.ndarray:
    """RENDER, RENDER, 3 linear picture of something out of focus."""
    from colorsys import hsv_to_rgb

    def colour() -> np.ndarray:
        return np.array(hsv_to_rgb(rng.random(), rng.beta(1.3, 3.5), rng.uniform(0.05, 0.95)))

    axis = np.linspace(-1, 1, RENDER)
    x, y = np.meshgrid(axis, axis)
    angle = rng.uniform(0, 2 * np.pi)
    t = np.clip(0.5 + 0.5 * (x * np.cos(angle) + y * np.sin(angle)), 0, 1)[..., None]
    picture = colour() * (1 - t) + colour() * t
    for _ in range(rng.integers(0, 9)):
        cx, cy, size = rng.uniform(-1.1, 1.1), rng.uniform(-1.1, 1.1), rng.uniform(0.12, 0.7)
        if rng.random() < 0.5:
            inside = np.hypot(x - cx, y - cy) < size
        else:
            inside = (np.abs(x - cx) < size) & (np.abs(y - cy) < size * rng.uniform(0.3, 3))
        picture = np.where(inside[..., None], colour() * 0.7 + picture * 0.3, picture)
    blur = rng.uniform(1.5, 9)
    return gaussian_filter(picture, (blur, blur, 0)) ** 2.0


def _quiet(colour: np.ndarray) -> np.ndarray:
    """The render without its fireflies and most of its sampling noise: a 3 x 3 bilateral filter on log luminance."""
    light = np.log(colour.mean(-1) + 0.02)
    typical = median_filter(light, 3)
    excess = np.minimum(typical + 0.6 - light, 0)
    colour, light = colour * np.exp(excess)[..., None], light + excess
    total, weights = np.zeros_like(colour), np.zeros((*light.shape, 1))
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near, near_light = (np.roll(a, (dy, dx), (0, 1)) for a in (colour, light))
            weight = np.exp(-(dy**2 + dx**2) / 0.9 - ((near_light - light) / 0.20) ** 2 / 2)[..., None]
            total, weights = total + weight * near, weights + weight
    return total / np.maximum(weights, 1e-6)


@dataclass
class Picture:
    """linear: H, W, 3 . landmarks: 68, 2 pixels of the 100 x 100 picture."""

    linear: np.ndarray
    landmarks: np.ndarray
    view: camera.View
    occluded: bool


def render(stage: Stage, who: Identity, action_units: dict[int, float], units: dict[str, float],
           rng: np.random.Generator) -> Picture:  # fmt: skip
    """One face of `who` with FACS intensities (for the painted creases) and face units (for the geometry)."""
    head = stage.head
    reference = head.reference
    neutral, skin, grown = stage.at_rest(who)
    face = neutral + head.expression(units)
    pose = camera.sample_pose(rng)
    matrix = camera.rotation(*pose)

    def put(points: np.ndarray, height: np.ndarray | float = 0.0) -> np.ndarray:
        return camera.turn(points, height, matrix)

    posed = put(face, reference[:, 1])
    points = landmarks.follow(posed, stage.placed)
    view = camera.align(points, pose, rng)

    scene: dict = {"type": "scene", "integrator": {"type": "path", "max_depth": 4, "hide_emitters": True}}
    scene |= _lights(rng)
    skin = texture.crease(skin, stage.chart, who, action_units)
    gloss = rng.uniform(0.44, 0.62)
    scene["skin"] = _mesh(posed[stage.split_vertex], stage.split_faces, _surface(skin, gloss, 0.34), uv=stage.split_uv)
    scene["cavity"] = _mesh(*_part(posed, stage.cavity), _surface((0.16, 0.035, 0.03), 0.6))
    for name, colour, roughness in (
        ("upper_teeth", (0.78, 0.73, 0.64), 0.3),
        ("lower_teeth", (0.72, 0.67, 0.58), 0.3),
        ("tongue", (0.42, 0.12, 0.11), 0.4),
    ):
        scene[name] = _mesh(*_part(posed, head.faces[name]), _surface(colour, roughness))

    # eyes: both look where the head looks, or a little aside
    gaze_yaw, gaze_pitch = rng.normal(-0.35 * pose[0], 6), rng.normal(-2 - 0.3 * pose[1], 4)
    gaze = camera.rotation(float(np.clip(gaze_yaw, -20, 20)), float(np.clip(gaze_pitch, -12, 10)), 0) @ (0, 0, 1)
    iris = props.eye_texture(
        who.iris_colour, rng.uniform(0.3, 0.5), 0.74 - 0.3 * who.tone, np.random.default_rng(who.seed)
    )
    centres = []
    for eye in ("left_eye", "right_eye"):
        centre, radius = props.eyeball(neutral[np.unique(head.faces[eye])])
        centres.append(centre)
        vertices, faces, uv = props.eye_mesh(centre, radius, gaze)
        scene[eye] = _mesh(put(vertices), faces, _surface(iris, 0.12, 0.6), uv=uv)

    if grown is not None:
        vertices, faces, colours = grown
        vertices = put(vertices, np.maximum(vertices[:, 1], -110))
        scene["hair"] = _mesh(vertices, faces, _surface("vertex_color", 0.55, 0.22), colours=colours)

    # clothes: the skin below a neckline, puffed out
    look = np.random.default_rng(int(rng.integers(1 << 30)))
    neckline = look.uniform(-190, -150)
    below = (reference[stage.outer_skin, 1] < neckline + 0.25 * reference[stage.outer_skin, 2]).all(1)
    shell = put(neutral + hair._normals(neutral, stage.outer_skin) * 5, reference[:, 1])
    cloth = texture.to_linear(look.uniform(0.05, 0.9) * (1 - look.uniform(0, 0.7) * look.random(3)))
    scene["clothes"] = _mesh(*_part(shell, stage.outer_skin[below]), _surface(cloth, 0.9, 0.1))

    occluded = False
    kind = rng.choice(("none", "hand", "cup", "scarf", "sun"), p=(0.93, 0.025, 0.015, 0.015, 0.015))
    if who.glasses != "none" or kind == "sun":
        style = "sun" if kind == "sun" else who.glasses
        depth = float(neutral[stage.placed[0][27, 0], 2])
        frame, lenses = props.spectacles(np.array(centres), style, np.random.default_rng(who.seed + 2), depth)
        tone = (0.012, 0.011, 0.01) if style in ("thick", "sun") else (0.2, 0.17, 0.13)
        scene["frame"] = _mesh(put(frame[0]), frame[1], _surface(tone, 0.25, 0.6))
        if style == "sun":
            scene["lenses"] = _mesh(put(lenses[0]), lenses[1], _surface((0.015, 0.013, 0.012), 0.08, 0.8))
            occluded = True
    if kind == "hand":
        vertices, faces = props.hand(rng)
        tone = texture.to_linear(texture.TONES[round(who.tone * (len(texture.TONES) - 1))] / 255.0)
        scene["hand"] = _mesh(put(vertices), faces, _surface(tone * (1.0, 0.9, 0.85), 0.55))
        occluded = True
    elif kind in ("cup", "scarf"):
        vertices, faces = props.cup(rng) if kind == "cup" else props.scarf(rng)
        scene[kind] = _mesh(put(vertices), faces, _surface(look.random(3) * 0.6 + 0.02, 0.4 if kind == "cup" else 0.95))
        occluded = True

    scene["sensor"] = _sensor(view, int(rng.integers(1 << 30)))
    rgba = np.array(mi.render(mi.load_dict(scene)))
    colour, alpha = rgba[..., :3], np.clip(rgba[..., 3:4], 0, 1)
    middle = (slice(RENDER * 3 // 10, RENDER * 8 // 10), slice(RENDER * 3 // 10, RENDER * 7 // 10))
    luminance = float(np.median(colour[middle].mean(-1)))
    goal = np.exp(np.interp(who.tone, (0, 0.35, 1), np.log((0.34, 0.25, 0.105))) + rng.normal(0, 0.16))
    colour = colour * goal / max(luminance, 1e-4)
    linear = _quiet(np.minimum(colour, 1.3)) + (1 - alpha) * _background(rng)
    return Picture(linear, camera.project(points, view), view, occluded)


def _sensor(view: camera.View, seed: int) -> dict:
    """The camera whose film is the aligned picture: rolled, zoomed and shifted as the similarity says."""
    scale, roll = abs(view.a), np.angle(view.a)
    shift = view.b  # pixel of the optical axis
    size = camera.SIZE
    return {
        "type": "perspective",
        "fov": float(np.degrees(2 * np.arctan(size / 2 / scale))),
        "principal_point_offset_x": float(0.5 - shift.real / size),
        "principal_point_offset_y": float(0.5 - shift.imag / size),
        "near_clip": 10.0,
        "film": {
            "type": "hdrfilm",
            "width": RENDER,
            "height": RENDER,
            "pixel_format": "rgba",
            "rfilter": {"type": "box"},
        },
        "sampler": {"type": "multijitter", "sample_count": SAMPLES, "seed": seed},
        "to_world": mi.ScalarTransform4f().look_at(
            origin=[0, 0, view.distance], target=[0, 0, 0], up=[float(-np.sin(roll)), float(np.cos(roll)), 0]
        ),
    }

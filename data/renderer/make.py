"""One face of the set from its number alone: the picture and what is known about it."""

from __future__ import annotations

from functools import cache

import drjit
import numpy as np

from . import camera, expression, identity, scene
from .plan import Face

SEED = 1918


@cache
def prepare() -> scene.Stage:
    """The stage, loaded once per process. One thread each: the faces are shared out over processes."""
    drjit.set_thread_count(1)
    return scene.Stage.load()


def make(face: Face) -> tuple[bytes, dict]:
    """JPEG of a face, and its record: file, label and one dict per table beside the images."""
    rng = np.random.default_rng((SEED, face.number))
    who = identity.make(face.identity)
    action_units, asymmetry = expression.sample(expression.CLASSES[face.label - 1], rng)
    picture = scene.render(prepare(), who, action_units, expression.face_units(action_units, asymmetry), rng)
    faults = camera.sample_faults(rng)
    jpeg = camera.develop(picture.linear, faults, rng)
    landmarks = {
        f"{axis}{i}": round(float(p[k]), 2) for i, p in enumerate(picture.landmarks) for k, axis in enumerate("xy")
    }
    quality = {
        "blur_sigma_px": round(faults.blur_sigma_px, 3),
        "resolution_ratio": round(faults.resolution_ratio, 3),
        "noise_sigma": round(faults.noise_sigma, 2),
        "jpeg_quality": faults.jpeg_quality,
        "darkness": round(faults.darkness, 3),
        "occluded": int(picture.occluded),
        "yaw": round(picture.view.yaw, 1),
        "pitch": round(picture.view.pitch, 1),
        "roll": round(picture.view.roll, 1),
        "quality": round(faults.score(picture.occluded), 4),
    }
    african, asian, european = who.ancestry
    person = {
        "identity": who.number, "sex": who.sex, "age": who.age, "african": round(african, 2), "asian": round(asian, 2),
        "european": round(european, 2), "tone": round(who.tone, 2), "hair": who.hair_style, "beard": who.beard_shape,
        "glasses": who.glasses,
    }  # fmt: skip
    units = {f"AU{unit}": round(level, 3) for unit, level in action_units.items()}
    record = {"file": face.file, "label": face.label, "landmarks": landmarks, "quality": quality, "identity": person,
              "action_units": units}  # fmt: skip
    return jpeg, record

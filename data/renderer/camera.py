"""Head pose, the view that brings eyes and mouth to RAF-DB's fixed places, and the camera's faults."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

SIZE = 100
TARGETS = np.array((32 + 38j, 68 + 38j, 50 + 78j))  # eyes and mouth in pixels, x + iy
NECK = np.array((0.0, -95.0, -75.0))


@dataclass(frozen=True)
class View:
    """Degrees of the head's pose (yaw: to the subject's left, pitch: up, roll: towards the subject's left shoulder),
    camera distance in mm, and the similarity a z + b from the camera's plane (x - iy per unit depth) to pixels."""

    yaw: float
    pitch: float
    roll: float
    distance: float
    a: complex
    b: complex


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """3, 3 rotation of the head, degrees."""
    y, p, r = np.radians((yaw, -pitch, -roll))
    about_y = np.array(((np.cos(y), 0, np.sin(y)), (0, 1, 0), (-np.sin(y), 0, np.cos(y))))
    about_x = np.array(((1, 0, 0), (0, np.cos(p), -np.sin(p)), (0, np.sin(p), np.cos(p))))
    about_z = np.array(((np.cos(r), -np.sin(r), 0), (np.sin(r), np.cos(r), 0), (0, 0, 1)))
    return about_z @ about_y @ about_x


def turn(points: np.ndarray, height: np.ndarray | float, pose: np.ndarray) -> np.ndarray:
    """Turns points (N, 3) about the neck; the part below the chin (reference `height` in mm) follows less."""
    follow = np.clip((np.asarray(height, float) + 230) / 120, 0.15, 1.0)
    turned = (points - NECK) @ pose.T + NECK
    return points + np.reshape(follow, (-1, 1) if np.ndim(follow) else ()) * (turned - points)


def project(points: np.ndarray, view: View) -> np.ndarray:
    """N, 2 pixels of N, 3 points in front of the camera at (0, 0, distance)."""
    depth = view.distance - points[:, 2]
    pixel = view.a * (points[:, 0] - 1j * points[:, 1]) / depth + view.b
    return np.stack([pixel.real, pixel.imag], 1)


def sample_pose(rng: np.random.Generator) -> tuple[float, float, float]:
    """Yaw, pitch, roll in degrees: mostly moderate, within 35, 20 and 12."""
    scale = rng.choice((0.5, 1.0), p=(0.55, 0.45))
    yaw, pitch, roll = rng.normal((0, -1, 0), (15 * scale, 7.5 * scale, 5))
    return float(np.clip(yaw, -35, 35)), float(np.clip(pitch, -20, 20)), float(np.clip(roll, -12, 12))


def align(landmarks: np.ndarray, pose: tuple[float, float, float], rng: np.random.Generator) -> View:
    """The view that a similarity transform from eyes and mouth gives, with the errors of a landmark detector (3 px of
    100 per point) and of the crop (2 px, 2 % of zoom): in-the-wild sets are aligned no better, and a model that
    compares pixel with pixel must not find the mouth at the same place in every face."""
    distance = float(rng.uniform(750, 2000))
    depth = distance - landmarks[:, 2]
    z = (landmarks[:, 0] - 1j * landmarks[:, 1]) / depth
    found = np.array((z[36:42].mean(), z[42:48].mean(), z[[48, 54, 51, 57]].mean()))
    scale = np.abs(found[1] - found[0]) / 36
    found = found + 3.0 * (rng.normal(0, 1, 3) + 1j * rng.normal(0, 1, 3)) * scale
    centre, goal = found.mean(), TARGETS.mean()
    shift = complex(*rng.normal(0, 2, 2))
    a = (np.conj(found - centre) @ (TARGETS - goal)) / (np.abs(found - centre) ** 2).sum()
    a *= rng.normal(1.0, 0.02)
    return View(*pose, distance, complex(a), complex(goal + shift - a * centre))


@dataclass(frozen=True)
class Faults:
    """blur_sigma_px of 100 px; resolution_ratio to the sharp picture; noise_sigma of 255; jpeg_quality;
    darkness 0..1."""

    blur_sigma_px: float
    resolution_ratio: float
    noise_sigma: float
    jpeg_quality: int
    darkness: float

    def score(self, occluded: bool) -> float:
        """Quality 0 (unreadable) .. 1 (clean): the product of one factor per fault, each 1 at no fault."""
        factors = (
            1 - 0.55 * min(self.blur_sigma_px / 2.4, 1),
            1 - 0.60 * min((1 - self.resolution_ratio) / 0.75, 1),
            1 - 0.40 * min(self.noise_sigma / 24, 1),
            1 - 0.35 * (95 - self.jpeg_quality) / 75,
            1 - 0.60 * self.darkness,
            0.8 if occluded else 1.0,
        )
        return float(np.prod(factors))


def sample_faults(rng: np.random.Generator) -> Faults:
    """60 % good, 30 % medium, 10 % bad."""
    level = rng.choice(3, p=(0.6, 0.3, 0.1))
    blur = rng.uniform((0.0, 0.2, 0.8)[level], (0.35, 0.9, 2.2)[level])
    ratio = rng.uniform((0.85, 0.5, 0.25)[level], (1.0, 0.85, 0.5)[level])
    noise = rng.uniform((0.0, 1.0, 4.0)[level], (2.0, 7.0, 20.0)[level])
    jpeg = int(rng.integers((82, 55, 22)[level], (94, 85, 60)[level]))
    dark = rng.uniform((0.0, 0.0, 0.1)[level], (0.12, 0.35, 0.75)[level])
    if level == 2:  # a bad picture has one or two gross faults, not all of them
        spared = rng.choice(5, size=3, replace=False)
        blur, ratio, noise, jpeg, dark = (
            keep if i in spared else value
            for i, (value, keep) in enumerate(((blur, 0.3), (ratio, 0.9), (noise, 2.0), (jpeg, 80), (dark, 0.05)))
        )
    return Faults(float(blur), float(ratio), float(noise), int(jpeg), float(dark))


def develop(linear: np.ndarray, faults: Faults, rng: np.random.Generator) -> bytes:
    """JPEG file of a linear picture (H, W, 3; 1 is white) at 100 x 100 with the camera's faults."""
    exposure = 2 ** (-3.2 * faults.darkness)
    shoulder = linear * exposure
    shoulder = np.where(shoulder > 0.7, 0.7 + 0.3 * (1 - np.exp(-(shoulder - 0.7) / 0.3)), shoulder)
    srgb = np.where(shoulder <= 0.0031308, 12.92 * shoulder, 1.055 * np.maximum(shoulder, 1e-9) ** (1 / 2.4) - 0.055)
    image = Image.fromarray((srgb.clip(0, 1) * 255 + 0.5).astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BOX)
    small = max(8, round(SIZE * faults.resolution_ratio))
    pixels = np.asarray(
        image.resize((small, small), Image.Resampling.BOX).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    )
    pixels = gaussian_filter(pixels.astype(np.float32), (faults.blur_sigma_px, faults.blur_sigma_px, 0))
    coarse = gaussian_filter(rng.standard_normal((SIZE, SIZE, 3)), (0.5, 0.5, 0))
    pixels = pixels + faults.noise_sigma * coarse / coarse.std()
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(file, "JPEG", quality=faults.jpeg_quality)
    return file.getvalue()

"""Faces as a checkpoint expects them: its five points brought onto a template by a similarity transform."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from poster_ada.data.splits import FaceSplit
from poster_ada.errors import InputError
from poster_ada.model.poster import FaceTemplate
from poster_ada.recognition.detector import FaceDetector

# RAF-DB's authors bring the two eyes and the centre of the mouth to fixed places in 100 x 100 pixels and do not say
# which; this is an estimate, until somebody with the set measures it by `python -m poster_ada.data template`.
RAFDB_ESTIMATE: FaceTemplate = ((0.31, 0.37), (0.69, 0.37), (0.5, 0.58), (0.35, 0.79), (0.65, 0.79))


def similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The turn, scale and shift that bring `points` (P, 2) nearest to `targets` (P, 2), without mirroring.

    Least squares (Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns").

    Returns:
        (2, 3): A and t of p -> A p + t.
    """
    of_points, of_targets = points.mean(0), targets.mean(0)
    p, q = points - of_points, targets - of_targets
    # In the plane the best turn and scale are a quotient of complex numbers.
    p, q = p[:, 0] + 1j * p[:, 1], q[:, 0] + 1j * q[:, 1]
    spread = (np.abs(p) ** 2).sum()
    turn = (np.conj(p) * q).sum() / spread if spread else 1.0
    a, b = np.real(turn), np.imag(turn)
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack((linear, of_targets - linear @ of_points))


def aligned(image: np.ndarray, points: np.ndarray, template: FaceTemplate, side: int) -> np.ndarray:
    """The face whose points are (5, 2) pixels in uint8 (H, W, 3), as uint8 (side, side, 3); edges are repeated."""
    # Points count pixels from the picture's corner, OpenCV counts from the first pixel's centre.
    matrix = similarity(points, np.asarray(template) * side)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    corners = np.array([(0, 0), (side, 0), (0, side), (side, side)], float)
    seen = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    height, width = image.shape[:2]
    (low_x, low_y), (high_x, high_y) = np.floor(seen.min(0)).astype(int) - 2, np.ceil(seen.max(0)).astype(int) + 2
    left, top = int(np.clip(low_x, 0, width - 1)), int(np.clip(low_y, 0, height - 1))
    right, bottom = int(np.clip(high_x, left + 1, width)), int(np.clip(high_y, top + 1, height))
    part = image[top:bottom, left:right]
    shrink = 1.0
    if scale < 0.5:  # a linear lookup would skip pixels, so what is large is averaged first
        shrink = min(1.0, 2 * scale)
        small = max(1, round(part.shape[1] * shrink)), max(1, round(part.shape[0] * shrink))
        part = cv2.resize(part, small, interpolation=cv2.INTER_AREA)
    to_part = np.array([[shrink, 0, -left * shrink], [0, shrink, -top * shrink], [0, 0, 1]])
    from_part = np.vstack((matrix, (0, 0, 1))) @ np.linalg.inv(to_part)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    by_centres = np.linalg.inv(half) @ from_part @ half
    return cv2.warpAffine(part, by_centres[:2], (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


MIRRORED = [1, 0, 2, 4, 3]  # where each of the five points lands in the mirror


class MeasuredTemplate(NamedTuple):
    """Where a set has its faces' points: their median, and how far faces lie from it, as shares of the side.

    deviation: median over faces of the mean distance of a face's five points from the template's; faces and found: how
    many faces were looked at, and in how many of them the detector found one.
    """

    template: FaceTemplate
    deviation: float
    faces: int
    found: int


def measure_template(split: FaceSplit, detector: FaceDetector, most: int = 2000) -> MeasuredTemplate:
    """Detect the points of at most `most` faces, every n-th, and take their median.

    Raises:
        InputError: the detector finds no face in any of them.
    """
    rows = np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).round().astype(int))
    points = []
    for row in rows:
        picture = split[int(row)][0].permute(1, 2, 0).numpy()
        if faces := detector.detect(np.ascontiguousarray(picture)):
            points.append(faces[0].points / (picture.shape[1], picture.shape[0]))
    if not points:
        raise InputError(f"the detector finds no face in {len(rows)} pictures of this set, so it has no template.")
    found = np.stack(points)
    median = np.median(found, axis=0)
    median = (median + np.array([1, 0]) + np.array([-1, 1]) * median[MIRRORED]) / 2  # faces are as often mirrored
    deviation = float(np.median(np.linalg.norm(found - median, axis=-1).mean(-1)))
    template = tuple((round(float(x), 4), round(float(y), 4)) for x, y in median)
    return MeasuredTemplate(template, deviation, len(rows), len(points))

"""A second look at a face that was found: turned upright, at the size at which the detector knows faces best.

It places the five points better than the first look, and what is no face is seldom taken for one twice: so the first
may be asked for less, and faces are found that it is not sure of.
"""

from __future__ import annotations

import numpy as np

from poster_ada.model.poster import FaceTemplate
from poster_ada.recognition.alignment import aligned, similarity
from poster_ada.recognition.detector import Detection, FaceDetector

# Chosen on training faces of another set than FER+, pasted into pictures small and turned, and on pictures without
# faces, by `python -m benchmarks.photographs --only collages --on train`.
SIDE, SHARE = 160, 0.6  # pixels of the view, and how much of it the model's crop takes
RAISED = 0.05  # of the crop's side: how far above the view's middle the crop's lies
SAME_PLACE = 0.25  # of the crop's side: how far the middle of the five points may move
LEAST_AT_FIRST, LEAST_SCORE = 0.3, 0.5  # of the first look and of the second


def looked_at_again(
    image: np.ndarray, face: Detection, template: FaceTemplate, detector: FaceDetector
) -> Detection | None:
    """The face in uint8 (H, W, 3) with the points and the score of the second look; None where that sees no face
    there."""
    targets = view_of(template)
    seen = detector.detect_once(aligned(image, face.points, targets, SIDE))
    middle = SIDE * np.mean(targets, 0)
    near = [each for each in seen if np.linalg.norm(each.points.mean(0) - middle) < SAME_PLACE * SHARE * SIDE]
    if not near:
        return None
    best = max(near, key=lambda each: each.score)
    matrix = similarity(face.points, SIDE * np.asarray(targets))
    points = (best.points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return Detection(face.box, points, best.score)


def view_of(template: FaceTemplate) -> FaceTemplate:
    """Where the five points lie in the view, as shares of its side."""
    return tuple((0.5 + SHARE * (x - 0.5), 0.5 + SHARE * (y - 0.5 - RAISED)) for x, y in template)

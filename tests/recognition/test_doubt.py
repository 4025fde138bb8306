"""What is no face, or not sure, says so; the real detector sees none in textures and noise."""

import numpy as np
import pytest
from photographs import SHEET
from PIL import Image

from poster_ada.recognition.detector import FaceDetector
from poster_ada.recognition.doubt import LEAST_CONFIDENCE, LEAST_FACE_SCORE, doubt_about


@pytest.mark.parametrize("confidence, score, doubt", [
    (0.99, 0.9, ""), (LEAST_CONFIDENCE, LEAST_FACE_SCORE, ""), (0.99, LEAST_FACE_SCORE - 0.01, "no face seen"),
    (LEAST_CONFIDENCE - 0.01, 0.9, "not sure"), (0.1, 0.0, "no face seen"), (0.1, None, "not sure"), (0.9, None, ""),
])
def test_no_face_comes_before_not_sure(confidence, score, doubt):
    assert doubt_about(confidence, score) == doubt


def test_doubt_reaches_the_table_and_the_picture(finding):
    recognizer = finding(crop="none", detector="given")
    picture = np.full((48, 48, 3), 90, np.uint8)
    faces = recognizer(picture)
    assert faces["doubt"].item() == "no face seen" and faces["score"].item() == 0.1
    assert (np.array(recognizer.draw(picture, faces)) != np.array(
        recognizer.draw(picture, faces.assign(doubt="")))).any()


def test_the_real_detector_tells_faces_from_textures(detector):
    sheet = np.array(Image.open(SHEET).convert("RGB"))
    seen = FaceDetector(detector)
    faces = [sheet[int(y):int(y + high), int(x):int(x + wide)] for x, y, wide, high in (
        face.box for face in seen.detect(sheet)[:20]) if x > 0 and y > 0]
    random = np.random.default_rng(1)
    others = [random.integers(0, 256, (48, 48, 3), np.uint8), np.zeros((48, 48, 3), np.uint8),
              np.full((48, 48, 3), 255, np.uint8), np.tile(np.uint8([[[0], [255]]]).repeat(3, 2), (48, 24, 1)),
              np.tile(np.arange(0, 240, 5, dtype=np.uint8)[:, None, None], (1, 48, 3))]
    assert np.mean([seen.face_score(face) >= LEAST_FACE_SCORE for face in faces]) > 0.9
    assert all(seen.face_score(other) < LEAST_FACE_SCORE for other in others)
    assert len(seen.detect(sheet)) == 84  # asking for a score leaves finding as it was

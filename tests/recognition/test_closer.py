"""The second look: the same face upright and large, its points brought back into the picture, and what is no face."""

import cv2
import numpy as np
from photographs import CHECKOUT, TEMPLATE

from poster_ada.data.datasets import open_dataset
from poster_ada.recognition.closer import LEAST_SCORE, SHARE, SIDE, looked_at_again, view_of
from poster_ada.recognition.detector import Detection, FaceDetector

POINTS = np.array(TEMPLATE) * 40 + (100, 60)


class Seeing:
    """Sees these faces in the view, and keeps it."""

    def __init__(self, *faces):
        self.faces = faces

    def detect_once(self, image):
        self.view = image
        return [Detection((0, 0, 1, 1), points, score) for points, score in self.faces]


def test_points_come_back_into_the_picture_and_the_second_score_counts():
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    face = Detection((100, 60, 40, 40), POINTS @ turn.T, 0.9)
    targets = np.array(view_of(TEMPLATE)) * SIDE
    again = looked_at_again(np.zeros((200, 300, 3), np.uint8), face, TEMPLATE, Seeing((targets, 0.6)))
    np.testing.assert_allclose(again.points, face.points, atol=1e-9)
    assert (again.score, again.box) == (0.6, face.box)
    moved = looked_at_again(np.zeros((200, 300, 3), np.uint8), face, TEMPLATE, Seeing((targets + (4, 0), 0.95)))
    np.testing.assert_allclose(moved.points, face.points + turn @ (4 * 40 / (SHARE * SIDE), 0), atol=1e-9)
    assert moved.score == 0.95


def test_only_a_face_in_the_middle_of_the_view_is_the_same_face():
    face, image = Detection((100, 60, 40, 40), POINTS, 0.9), np.zeros((200, 300, 3), np.uint8)
    targets = np.array(view_of(TEMPLATE)) * SIDE
    assert looked_at_again(image, face, TEMPLATE, Seeing()) is None
    assert looked_at_again(image, face, TEMPLATE, Seeing((targets + (30, 0), 0.9))) is None
    both = looked_at_again(image, face, TEMPLATE, Seeing((targets + (30, 0), 0.9), (targets, 0.7)))
    assert both.score == 0.7


def test_the_real_detector_places_points_of_small_turned_faces_better(detector):
    """Demo faces say where eyes, nose tip and mouth corners are (points of 300-W's 68, from 0)."""
    split = open_dataset(CHECKOUT / "data" / "demo", check=False).test
    finder, random, errors = FaceDetector(detector, LEAST_SCORE), np.random.default_rng(1), []
    for row in range(0, 80, 2):
        face = split[row][0].permute(1, 2, 0).numpy()
        marks = split.landmarks[row]
        truth = np.stack((marks[36:42].mean(0), marks[42:48].mean(0), marks[30], marks[48], marks[54]))
        matrix = cv2.getRotationMatrix2D((face.shape[1] / 2, face.shape[0] / 2), random.uniform(-20, 20), 0.5)
        image = cv2.warpAffine(np.ascontiguousarray(face), matrix, (320, 240), borderMode=cv2.BORDER_REPLICATE)
        truth = truth @ matrix[:, :2].T + matrix[:, 2]
        for first in finder.detect(image)[:1]:
            if again := looked_at_again(image, first, TEMPLATE, finder):
                errors.append([np.linalg.norm(look.points - truth, axis=1).mean() for look in (first, again)])
    first, second = np.mean(errors, 0)
    assert len(errors) > 30 and second < first


def test_the_real_detector_does_not_take_noise_for_a_face_twice(detector):
    image = np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)
    assert looked_at_again(image, Detection((100, 60, 40, 40), POINTS, 0.9), TEMPLATE, FaceDetector(detector)) is None

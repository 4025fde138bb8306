"""Faces are brought onto the template wherever they lie, however they are turned and however large they are."""

import cv2
import numpy as np
import pytest
from face_sets import rafdb
from photographs import TEMPLATE, Scripted

from poster_ada.data.datasets import open_dataset
from poster_ada.errors import InputError
from poster_ada.recognition.alignment import aligned, measure_template, similarity


def test_a_similarity_is_found_again():
    random = np.random.default_rng(1)
    points = random.uniform(0, 100, (5, 2))
    turn = np.deg2rad(25)
    linear = 1.7 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = similarity(points, points @ linear.T + (3, -8))
    np.testing.assert_allclose(matrix, np.column_stack((linear, (3, -8))), atol=1e-9)
    noisy = points @ linear.T + random.normal(0, 1, (5, 2))
    best = ((points @ similarity(points, noisy)[:, :2].T + similarity(points, noisy)[:, 2] - noisy) ** 2).sum()
    for other in random.normal(0, 0.02, (50, 2, 2)):  # no other turn, scale and shift is nearer
        a, b = similarity(points, noisy)[:, 0] + other[0]
        moved = points @ np.array([[a, -b], [b, a]]).T
        assert ((moved - moved.mean(0) + noisy.mean(0) - noisy) ** 2).sum() >= best - 1e-9
    assert np.isfinite(similarity(np.zeros((5, 2)), noisy)).all()


def spots(height, width, points, radius):
    """A dark picture with a bright disc at each point (pixels from the corner)."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y in points:
        centre = round(x * 16 - 8), round(y * 16 - 8)
        cv2.circle(image, centre, round(radius * 16), (255, 255, 255), -1, cv2.LINE_AA, 4)
    return image


@pytest.mark.parametrize("degrees, scale, where", [(0, 60, (200, 150)), (20, 90, (400, 300)), (-35, 700, (900, 800)),
                                                   (170, 48, (90, 80))])
def test_the_points_land_on_the_template(degrees, scale, where):
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (np.array(TEMPLATE) - 0.5) * scale @ rotation.T + where
    crop = aligned(spots(1700, 1900, points, scale / 16), points, TEMPLATE, 96)
    assert crop.shape == (96, 96, 3) and crop.dtype == np.uint8
    _, _, stats, centres = cv2.connectedComponentsWithStats((crop[..., 0] > 127).astype(np.uint8))
    found = centres[1:][stats[1:, cv2.CC_STAT_AREA] > 20] + 0.5
    expected = np.array(TEMPLATE) * 96
    for point in expected:
        assert np.linalg.norm(found - point, axis=1).min() < 0.7


def test_a_face_at_the_edge_repeats_it_and_one_far_outside_does_no_harm():
    image = np.full((60, 60, 3), 200, np.uint8)
    points = np.array(TEMPLATE) * 100 - 40
    assert (aligned(image, points, TEMPLATE, 48) == 200).all()
    assert (aligned(image, points + 5000, TEMPLATE, 48) == 200).all()


def test_fine_stripes_of_a_large_face_average_out():
    image = np.zeros((2000, 2000, 3), np.uint8)
    image[:, ::2] = 255
    crop = aligned(image, np.array(TEMPLATE) * 2000, TEMPLATE, 48)
    assert abs(crop.astype(int) - 128).max() < 30


def test_a_template_is_the_symmetric_median_of_what_is_found(tmp_path):
    split = open_dataset(rafdb(tmp_path, train=14, test=7)).train
    measured = measure_template(split, Scripted((10, 20, 60, 60)))
    assert measured.faces == measured.found == 14 and measured.deviation < 0.2
    template = np.array(measured.template)
    np.testing.assert_allclose(template[0, 0] + template[1, 0], 1, atol=1e-3)
    assert template[0, 1] == template[1, 1] and template[2, 0] == 0.5
    with pytest.raises(InputError, match="finds no face in 14 pictures"):
        measure_template(split, Scripted())

"""A face keeps its number while its boxes overlap, and a new one gets a new number."""

import pytest

from poster_ada.recognition.boxes import overlap
from poster_ada.recognition.tracks import PATIENCE, Tracks


def test_overlap_is_intersection_over_union():
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0 and overlap((1, 2, 3, 4), (1, 2, 3, 4)) == 1


def test_numbers_follow_moving_faces():
    tracks = Tracks()
    assert tracks.number(1, [(0, 0, 10, 10), (50, 0, 10, 10)]) == [1, 2]
    assert tracks.number(2, [(52, 0, 10, 10), (3, 0, 10, 10)]) == [2, 1]  # in another order
    assert tracks.number(3, [(90, 0, 10, 10)]) == [3]
    assert tracks.number(3 + PATIENCE - 1, [(4, 0, 10, 10)]) == [1]  # away for a while
    assert tracks.number(3 + 3 * PATIENCE, [(4, 0, 10, 10)]) == [4]  # away for too long
    assert tracks.number(4 + 3 * PATIENCE, [(4, 0, 10, 10), (5, 0, 10, 10)]) == [4, 5]  # one number is not given twice
    assert tracks.number(5 + 3 * PATIENCE, []) == []

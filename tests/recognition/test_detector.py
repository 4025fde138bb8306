"""The detector's file is fetched once, checked, and named when it cannot be had; faces are found in the real one."""

import numpy as np
import pytest
from photographs import SHEET
from PIL import Image

import poster_ada.recognition.detector as module
from poster_ada.errors import InputError
from poster_ada.recognition.detector import FaceDetector, find_detector


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    path = tmp_path / "cache" / module.FILE
    monkeypatch.setattr(module, "cached_detector", lambda: path)
    return path


def test_without_network_one_sentence_says_what_to_do(cache, tmp_path):
    with pytest.raises(InputError, match=r"could not be downloaded; fetch file:.* --detector, .*--crop none"):
        find_detector(addresses=((tmp_path / "nothing").as_uri(),))
    with pytest.raises(InputError, match=r"there is no detector file .*gone.onnx"):
        find_detector(tmp_path / "gone.onnx")


def test_another_file_is_refused_and_a_wrong_download_not_kept(cache, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(b"something else")
    with pytest.raises(InputError, match=r"other.onnx is not the YuNet detector .*give the right file"):
        find_detector(other)
    assert other.is_file()
    with pytest.raises(InputError, match="is not the YuNet detector .*run the same command again"):
        find_detector(addresses=(other.as_uri(),))
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("poster_ada.recognition.detector.cached_detector", lambda: tmp_path / "file" / "detector.onnx")
    with pytest.raises(InputError, match="cannot be kept in .*file .*give the file with --detector"):
        find_detector(addresses=((tmp_path / "other").as_uri(),))


def test_the_real_file_is_downloaded_once_by_the_second_address(cache, tmp_path, detector):
    assert find_detector(addresses=((tmp_path / "gone").as_uri(), detector.as_uri())) == cache
    assert cache.read_bytes() == detector.read_bytes()
    assert find_detector(addresses=()) == cache


def test_every_face_of_the_contact_sheet_is_found_the_largest_first(detector):
    sheet = np.array(Image.open(SHEET).convert("RGB"))
    faces = FaceDetector(detector).detect(sheet)
    assert len(faces) == 84 and all(face.score >= 0.7 for face in faces)
    areas = [face.box[2] * face.box[3] for face in faces]
    assert areas == sorted(areas, reverse=True)
    for face in faces:  # right eye, left eye, nose below them, mouth below that
        (right, left, nose, mouth, _), (x, y, wide, high) = face.points, face.box
        assert right[0] < left[0] and right[1] < nose[1] < mouth[1]
        assert x < nose[0] < x + wide and y < nose[1] < y + high


def test_boxes_count_the_pixels_of_a_large_photograph(detector):
    sheet = Image.open(SHEET).convert("RGB")
    plain = FaceDetector(detector).detect(np.array(sheet))
    large = FaceDetector(detector).detect(np.array(sheet.resize((3 * sheet.width, 3 * sheet.height))))
    distances = [min(np.abs(np.array(other.box) / 3 - face.box).max() for other in large) for face in plain]
    assert sum(distance < 8 for distance in distances) > 75  # of 84; a few are too small once scaled down


def test_a_close_up_is_found(detector):
    face = FaceDetector(detector).detect(np.array(Image.open(SHEET).convert("RGB")))[0]
    x, y, wide, high = map(round, face.box)
    crop = Image.open(SHEET).convert("RGB").crop((x, y, x + wide, y + high))
    for side in (40, 100, 1500):
        assert FaceDetector(detector).detect(np.array(crop.resize((side, side)))), side


@pytest.mark.parametrize("shape", [(1, 1), (100, 20000), (3, 5), (7, 500)])
def test_odd_shapes_hold_no_face(detector, shape):
    assert FaceDetector(detector).detect(np.full((*shape, 3), 128, np.uint8)) == []

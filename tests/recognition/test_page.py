"""What the page answers to a picture, without a browser."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def answer():
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'poster-ada[app]'")
    from poster_ada.recognition.page import answer

    return answer


def test_a_picture_taken_whole_is_said_to_be(answer, finding, tmp_path):
    path = str(tmp_path / "photo.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 60, 3), np.uint8)).save(path)
    picture, said, _ = answer(finding(), path)
    assert picture.size == (60, 60) and said.startswith("<p>No face was found; the picture was taken whole.")
    for recognizer in (finding(crop="none"), finding((5, 5, 40, 40))):
        assert answer(recognizer, path)[1].startswith("<h4>Face 1: ")
    assert answer(finding(crop="detect"), path)[1] == "<p>No face was found.</p>"


def test_a_file_that_is_no_picture_or_gone_is_one_sentence(answer, finding, tmp_path):
    (tmp_path / "<b>.jpg").write_text("text", encoding="utf-8")
    picture, said, heat = answer(finding(), str(tmp_path / "<b>.jpg"))
    assert (picture, heat) == (None, None) and "&lt;b&gt;.jpg is not a picture" in said and str(tmp_path) not in said
    assert "there is no picture gone.jpg" in answer(finding(), str(tmp_path / "gone.jpg"))[1]

"""The table: one row per face, what the model says of each aligned crop, and pictures of every kind."""

import numpy as np
import pandas as pd
import pytest
import torch
from face_sets import rafdb
from PIL import Image, ImageDraw

from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.data.datasets import open_dataset
from poster_ada.errors import InputError
from poster_ada.evaluation.predict import predict_split
from poster_ada.evaluation.predictions import probabilities_of
from poster_ada.recognition.alignment import RAFDB_ESTIMATE, aligned
from poster_ada.recognition.recognizer import POINTS, Recognizer

BOXES = ((50, 20, 80, 90), (150, 40, 40, 40))


@pytest.fixture
def photograph():
    return np.random.default_rng(2).integers(0, 256, (160, 240, 3), np.uint8)


def test_faces_cut_out_already_are_predicted_as_test_does(checkpoint, tmp_path, monkeypatch):
    split = open_dataset(rafdb(tmp_path, train=14, test=9)).test
    expected = predict_split(load_checkpoint(checkpoint), split, quiet=True)
    monkeypatch.setattr("poster_ada.recognition.recognizer.cached_detector", lambda: tmp_path / "none")
    faces = Recognizer(checkpoint, crop="none")([str(path) for path in split.paths])
    assert faces["file"].to_list() == [str(path) for path in split.paths] and set(faces["face"]) == {1}
    np.testing.assert_allclose(probabilities_of(faces), probabilities_of(expected), atol=1e-5)
    assert faces["prediction"].to_list() == expected["prediction"].to_list()
    np.testing.assert_allclose(faces["norm"], expected["norm"], rtol=1e-4)
    assert faces["score"].isna().all() and faces.loc[0, ["x", "y", "width", "height"]].to_list() == [0, 0, 100, 100]


def test_every_found_face_is_aligned_and_has_a_row(finding, photograph):
    recognizer = finding(*BOXES)
    faces = recognizer(photograph)
    assert faces["face"].to_list() == [1, 2] and faces["score"].to_list() == [0.9, 0.9]
    for box, row in zip(BOXES, faces.itertuples(), strict=True):
        assert (row.x, row.y, row.width, row.height) == box
        points = np.array([getattr(row, name) for name in POINTS]).reshape(5, 2)
        crop = aligned(photograph, points, recognizer.template, 48)
        probabilities, norms = recognizer.recognise([crop])
        np.testing.assert_allclose(probabilities[0].max(), row.confidence, rtol=1e-5)
        assert recognizer.class_names[probabilities[0].argmax()] == row.prediction
        np.testing.assert_allclose(norms[0], row.norm, rtol=1e-5)


def test_what_the_second_look_sees_no_face_in_is_none(finding, photograph):
    recognizer = finding(*BOXES, crop="detect")
    recognizer.least_score = 0.9
    assert recognizer(photograph)["face"].to_list() == [1, 2]
    recognizer.least_score = 0.91
    assert recognizer(photograph)["face"].to_list() == [0]
    recognizer.detector.detect_once, recognizer.least_score = lambda view: [], 0.0
    assert recognizer(photograph)["face"].to_list() == [0]


def test_crops_are_those_that_were_recognised(finding, photograph):
    recognizer = finding(*BOXES)
    faces = recognizer(photograph)
    crops = recognizer.crops(photograph, faces)
    assert len(crops) == 2 and recognizer.input_of(crops[0]).shape == (1, 3, 48, 48)
    np.testing.assert_allclose(recognizer.recognise(crops)[0], probabilities_of(faces), rtol=1e-5)
    assert recognizer.crops(photograph, faces.iloc[:0]) == []


def test_pictures_of_every_kind_are_the_same_picture(finding, photograph, tmp_path):
    recognizer = finding(*BOXES)
    Image.fromarray(photograph).save(tmp_path / "photo.png")
    kinds = [tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(photograph), photograph,
             torch.from_numpy(photograph).permute(2, 0, 1)]
    tables = [recognizer(kind).drop(columns="file") for kind in kinds]
    assert all(table.equals(tables[0]) for table in tables)
    together = recognizer(kinds)
    assert together["file"].to_list() == [name for name in (str(kinds[0]), kinds[1], "2", "3", "4") for _ in BOXES]
    grey = photograph[..., 0]
    assert recognizer(grey).equals(recognizer(np.stack([grey] * 3, 2)))


@pytest.mark.parametrize("picture", [
    np.zeros((4, 4, 3)), np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4, 3), np.uint8), 7, torch.zeros(3, 4, 4)])
def test_what_is_no_picture_is_refused(finding, picture):
    with pytest.raises(InputError, match="a picture is a path, a PIL image"):
        finding()(picture)


@pytest.mark.parametrize("crop, side, whole", [("auto", 72, True), ("auto", 73, False), ("detect", 48, False),
                                               ("none", 500, True)])
def test_where_no_face_is_found(finding, crop, side, whole):
    faces = finding(crop=crop)(np.full((side, side, 3), 90, np.uint8))
    assert len(faces) == 1
    if whole:
        assert faces["face"].item() == 1 and faces["width"].item() == side
    else:
        assert faces["face"].item() == 0 and faces["prediction"].item() == "no face"
        assert faces["confidence"].isna().all()


def test_a_list_of_nothing_is_a_table_without_rows(finding):
    assert len(finding()([])) == 0


def test_a_checkpoint_without_template_gets_the_estimate_and_says_so(finding, checkpoint, tmp_path):
    assert finding().note is None
    model = load_checkpoint(checkpoint)
    model.face_template = None
    from poster_ada.checkpoints.own import save_checkpoint
    save_checkpoint(model, tmp_path / "other.safetensors")
    other = Recognizer(tmp_path / "other.safetensors", crop="none")
    assert other.template == RAFDB_ESTIMATE and other.note is None  # nothing is aligned here
    other.crop = "auto"
    assert "other.safetensors does not say" in other.note and "estimate" in other.note


def test_drawing_marks_the_faces_and_nothing_else(finding, photograph):
    recognizer = finding(*BOXES)
    drawn = np.array(recognizer.draw(photograph, recognizer(photograph)))
    changed = (drawn != photograph).any(2)
    assert changed[20, 60:120].all() and changed[100, 50]  # box of the first face
    assert not changed[60, 60:125].any() and not changed[150:, :].any()
    nothing = recognizer(photograph).iloc[:0]
    assert (np.array(recognizer.draw(photograph, nothing)) == photograph).all()


def test_labels_have_numbers_where_there_are_several_and_lie_over_every_box(finding, photograph, monkeypatch):
    drawn = []
    for name in ("rectangle", "text"):
        monkeypatch.setattr(ImageDraw.ImageDraw, name, lambda self, place, text=None, name=name, **how: drawn.append(
            (name, text)))
    recognizer = finding(*BOXES)
    faces = recognizer(photograph)
    recognizer.draw(photograph, faces)
    assert [name for name, _ in drawn] == ["rectangle"] * 3 + ["text", "rectangle", "text"]
    assert [text[:2] for name, text in drawn if name == "text"] == ["1 ", "2 "]
    drawn.clear()
    recognizer.draw(photograph, faces.head(1))
    assert [text[:3] for name, text in drawn if name == "text"] == [faces["prediction"][0][:3]]


def test_a_table_that_was_kept_as_csv_is_drawn_alike(finding, photograph, tmp_path):
    recognizer = finding(*BOXES)
    faces = recognizer(photograph).assign(doubt=["", "not sure"])
    faces.to_csv(tmp_path / "faces.csv", index=False)
    again = recognizer.draw(photograph, pd.read_csv(tmp_path / "faces.csv"))
    assert (np.array(again) == np.array(recognizer.draw(photograph, faces))).all()


def test_heat_that_is_nowhere_is_said(finding, photograph, monkeypatch):
    pytest.importorskip("pytorch_grad_cam")
    recognizer, written = finding(*BOXES), []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, **how: written.append(text))
    monkeypatch.setattr("poster_ada.recognition.explained.grad_cam", lambda model, images, classes, stream: np.full(
        (1, 7, 7), float(stream == "image_stream"), np.float32))
    recognizer.explain(photograph, recognizer(photograph).head(1), with_picture=False)
    assert written[1:] == ["image stream", "landmark stream: no heat"]


def test_explaining_adds_a_line_of_panels_for_each_face(finding, photograph):
    pytest.importorskip("pytorch_grad_cam")
    recognizer = finding(*BOXES)
    one = recognizer.explain(photograph, recognizer(photograph).head(1))
    both = recognizer.explain(photograph, recognizer(photograph))
    assert one.width == both.width and both.height - one.height > 160
    panels = np.array(both)[-160:, :160].astype(int), np.array(both)[-160:, 168:328].astype(int)
    assert np.abs(panels[0] - panels[1]).mean() > 5  # heat lies on it


def test_explaining_some_faces_shows_these(finding, photograph):
    pytest.importorskip("pytorch_grad_cam")
    recognizer = finding(*BOXES)
    faces = recognizer(photograph)
    both = np.array(recognizer.explain(photograph, faces, with_picture=False))
    second = np.array(recognizer.explain(photograph, faces.iloc[1:], with_picture=False))
    line = both.shape[0] // 2
    assert np.array_equal(second[:line], both[line:]) and not np.array_equal(second[:line], both[:line])
    with pytest.raises(InputError, match="no column left_eye_x; give the table"):
        recognizer.explain(photograph, faces.drop(columns=list(POINTS)))


def test_a_picture_taken_whole_is_explained_whole(finding):
    pytest.importorskip("pytorch_grad_cam")
    recognizer = finding(crop="none")
    picture = np.random.default_rng(1).integers(0, 256, (90, 90, 3), np.uint8)
    assert recognizer.explain(picture, recognizer(picture), with_picture=False).height > 160


def test_pillows_pictures_are_turned_as_their_files_are_and_broken_ones_are_one_sentence(finding, photograph, tmp_path):
    recognizer = finding(*BOXES)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        assert recognizer(opened).drop(columns="file").equals(recognizer(photograph).drop(columns="file"))
        assert recognizer.draw(opened, recognizer(opened)).size == (240, 160)
    content = (tmp_path / "turned.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[:len(content) // 2])
    with Image.open(tmp_path / "cut.png") as opened, pytest.raises(InputError, match="the picture does not decode"):
        recognizer(opened)


def test_of_many_pictures_one_is_held_at_a_time(finding, photograph, monkeypatch):
    import gc
    import weakref

    recognizer, alive, most = finding(*BOXES), weakref.WeakSet(), []

    class Held(np.ndarray):
        """An array that can be counted."""

    def read(picture):
        gc.collect()
        image = photograph.copy().view(Held)
        alive.add(image)
        most.append(len(alive))
        return image

    monkeypatch.setattr(Held, "__hash__", object.__hash__, raising=False)
    monkeypatch.setattr("poster_ada.recognition.recognizer.as_array", read)
    assert len(recognizer([photograph] * 5)) == 10 and max(most) <= 2


@pytest.mark.parametrize("choice, sentence", [
    ({"crop": "some"}, "crop 'some' is unknown"), ({"least_score": 5}, "least_score is 5; it must lie in 0..1"),
    ({"device": "toaster"}, "device 'toaster' is unknown"), ({"precision": "int4"}, "precision 'int4' is unknown"),
])
def test_unknown_choices_are_refused(checkpoint, choice, sentence):
    with pytest.raises(InputError, match=sentence):
        Recognizer(checkpoint, **{"crop": "none"} | choice)


@pytest.mark.parametrize("name, sentence", [
    ("gone.jpg", "there is no picture gone.jpg; check the name"),
    ("http://example.com/photo.jpg", "there is no picture http://example.com/photo.jpg; check the name"),
    (".", "^. is a folder, not a picture; those go to python -m poster_ada.predict"),
    ("clip.mp4", "clip.mp4 is a video, not a picture; those go to python -m poster_ada.predict"),
])
def test_a_path_without_a_picture_is_one_sentence(finding, tmp_path, monkeypatch, name, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=sentence):
        finding()(name)


def test_the_real_detector_recognises_the_contact_sheet_turned_or_not(checkpoint, detector, tmp_path):
    from photographs import SHEET
    recognizer = Recognizer(checkpoint, detector=detector)
    part = Image.open(SHEET).convert("RGB").crop((150, 0, 1130, 300))
    part.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter when shown
    part.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright, turned = (recognizer(tmp_path / name) for name in ("upright.png", "turned.png"))
    assert len(upright) > 5 and upright.drop(columns="file").equals(turned.drop(columns="file"))

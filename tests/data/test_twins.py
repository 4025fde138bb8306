"""Copies of test faces in the training split are found, other pictures are not called copies."""

import io
import shutil
from pathlib import Path

import imagehash
import numpy as np
import pytest
from face_sets import ferplus, picture
from PIL import Image

import poster_ada.data.twins as twins
from poster_ada.data.__main__ import main
from poster_ada.data.datasets import open_dataset
from poster_ada.data.twins import _hashes, near_copies_in_train, twins_in_train


def encoded(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def shifted(image, pixels):
    return Image.fromarray(np.pad(np.asarray(image), ((pixels, 0), (pixels, 0), (0, 0)), mode="edge")[:100, :100])


COPIES = {
    "mirrored": lambda image: image.transpose(Image.FLIP_LEFT_RIGHT),
    "re-encoded": lambda image: encoded(image, 40),
    "shifted": lambda image: shifted(image, 4),
    "smaller": lambda image: image.resize((60, 60), Image.BILINEAR),
    "larger": lambda image: image.resize((224, 224), Image.BICUBIC),
    "cropped": lambda image: image.crop((4, 4, 96, 96)).resize((100, 100), Image.BILINEAR),
    "grey": lambda image: image.convert("L"),
    "mirrored, shifted and re-encoded": lambda image: encoded(
        shifted(image.transpose(Image.FLIP_LEFT_RIGHT), 3), 60),
}


def blobs(number):
    """A smooth picture, as aligned faces are alike: a common oval and light, with detail of its own."""
    y, x = np.mgrid[-1:1:100j, -1:1:100j]
    oval = 160 * np.exp(-2 * (x**2 + 0.7 * y**2)) + 30 * y
    own = np.asarray(picture(number).resize((100, 100)), float) - 128
    return Image.fromarray((oval[..., None] + 40 + 0.35 * own).clip(0, 255).astype(np.uint8))


@pytest.fixture
def faces(tmp_path):
    """20 test faces, 60 training faces, none of them copies."""
    for split, numbers in (("train", range(60)), ("test", range(100, 120))):
        (tmp_path / split / "a").mkdir(parents=True)
        for number in numbers:
            blobs(number).save(tmp_path / split / "a" / f"{number:03d}.png")
    return tmp_path


def test_different_pictures_are_no_copies(faces):
    assert near_copies_in_train(open_dataset(faces)) == {} and not twins_in_train(open_dataset(faces)).any()


def test_rendered_heads_under_one_light_are_no_copies():
    demo = Path(__file__).parents[2] / "data" / "demo"
    assert near_copies_in_train(open_dataset(demo, check=False)) == {}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_and_named(faces, kind, capsys):
    COPIES[kind](blobs(107)).save(faces / "train" / "a" / "0305.png")
    dataset = open_dataset(faces)
    assert near_copies_in_train(dataset) == {7: dataset.train.files.index("a/0305.png")}
    assert np.flatnonzero(twins_in_train(dataset)).tolist() == [7]
    with pytest.raises(SystemExit):
        main(["check", str(faces)])
    output = capsys.readouterr().out
    assert "near copy of one in train (first: train/a/0305.png = test/a/107.png)" in output
    row = next(line for line in output.splitlines() if line.startswith("near copies in train"))
    assert row.split()[-1] == "1"


def test_an_equal_picture_is_a_twin_but_no_near_copy(faces):
    blobs(107).save(faces / "train" / "a" / "0305.bmp")
    dataset = open_dataset(faces, check=False)
    assert near_copies_in_train(dataset) == {}
    assert np.flatnonzero(twins_in_train(dataset)).tolist() == [7]


def test_sets_without_a_split_have_no_twins(faces):
    for path in (faces / "train" / "a").iterdir():
        path.unlink()
    assert twins_in_train(open_dataset(faces, needs=("test",))) is None


def test_a_copy_among_the_faces_without_a_majority_is_a_twin_too(tmp_path):
    root = ferplus(tmp_path / "votes")
    without_majority = root / "FER2013Train" / "fer0000002.png"
    shutil.copy(without_majority, root / "FER2013Test" / "fer0000018.png")  # the first test face
    dataset = open_dataset(root, needs=())
    assert without_majority.name not in dataset.train.files
    assert twins_in_train(dataset).tolist() == [True] + [False] * (len(dataset.test) - 1)


def test_nobody_looks_through_too_many_training_faces(faces, monkeypatch):
    monkeypatch.setattr(twins, "MOST_COMPARED", 1)
    assert twins_in_train(open_dataset(faces)) is None


def test_hashes_are_those_of_the_library():
    pictures = np.stack([np.asarray(blobs(number).convert("L").resize((48, 48))) for number in range(200)])
    expected = [imagehash.phash(Image.fromarray(one)).hash.ravel() for one in pictures]
    assert np.array_equal(_hashes(pictures) > 0, expected)

"""A checkpoint, a recogniser, and the real detector where somebody has it."""

import pytest
import torch
from photographs import TEMPLATE, Scripted, detector_file

from poster_ada.checkpoints.create import create_model
from poster_ada.checkpoints.own import save_checkpoint
from poster_ada.recognition.recognizer import Recognizer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A random nano of 7 classes that says where it expects a face's points."""
    torch.manual_seed(3)
    model = create_model("nano", channel_order="grey")
    model.face_template = TEMPLATE
    path = tmp_path_factory.mktemp("checkpoint") / "nano.safetensors"
    save_checkpoint(model, path)
    return path


@pytest.fixture(scope="session")
def detector():
    """The detector's file."""
    return detector_file() or pytest.skip("the face detector is not here: python -m poster_ada.download detector")


@pytest.fixture
def finding(checkpoint, monkeypatch):
    """Makes a recogniser that finds these boxes (x, y, width, height) in every picture."""
    def make(*boxes, **choices):
        monkeypatch.setattr("poster_ada.recognition.recognizer.FaceDetector", lambda *_: Scripted(*boxes))
        return Recognizer(checkpoint, **choices)

    return make

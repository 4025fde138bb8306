"""Grad-CAM asks for one class of the model for each image, and for a stream that the model has."""

import numpy as np
import pytest
import torch

from poster_ada.checkpoints.create import create_model
from poster_ada.errors import InputError

gradcam = pytest.importorskip("poster_ada.explain.gradcam", exc_type=ImportError)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("nano").eval()


IMAGES = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("classes", "message"), [
    ([0, 7], "there is no class 7; the model has 0 to 6"), ([-1, 0], "there is no class -1"),
    ([3], "1 classes were given for 2 images"), ([1, 2, 3], "3 classes were given for 2 images"), ([], "0 classes"),
])
def test_classes_that_do_not_fit_are_one_sentence(model, classes, message):
    with pytest.raises(InputError, match=message):
        gradcam.grad_cam(model, IMAGES, classes, "image_stream")
    with pytest.raises(InputError, match=message):
        gradcam.road(model, IMAGES, classes, np.ones((2, 48, 48), np.float32))


def test_another_stream_is_one_sentence(model):
    with pytest.raises(InputError, match="stream 'fusion' is unknown; choose one of image_stream, landmark_stream"):
        gradcam.grad_cam(model, IMAGES, [0, 1], "fusion")


def test_tensors_and_numpy_numbers_are_classes(model):
    for classes in (np.array([0, 6]), torch.tensor([0, 6])):
        assert gradcam.grad_cam(model, IMAGES, classes, "image_stream").shape == (2, 48, 48)

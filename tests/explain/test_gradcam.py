"""Grad-CAM asks for a class of each image that the model has."""

import pytest
import torch

from poster_ada.checkpoints.create import create_model
from poster_ada.errors import InputError
from poster_ada.explain.gradcam import grad_cam, road

IMAGES = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("classes", "stream", "words"), [
    ([0, 1, 7], "image_stream", "there is no class 7; the model has 7, counted from 0: Surprise"),
    ([0, -1, 2], "landmark_stream", "there is no class -1"),
    ([0, 1], "image_stream", "2 classes were given for 3 images; give one for each"),
    ([0, 1, 2], "images", "there is no stream 'images'; choose one of image_stream, landmark_stream"),
])
def test_what_the_model_does_not_have_is_refused(classes, stream, words):
    with pytest.raises(InputError, match=words):
        grad_cam(create_model("nano").eval(), IMAGES, classes, stream)


def test_road_asks_the_same():
    with pytest.raises(InputError, match="there is no class 9"):
        road(create_model("nano").eval(), IMAGES, [0, 9, 1], torch.zeros(3, 48, 48).numpy())

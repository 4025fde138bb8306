"""Points of real faces become what a landmark stream learns from; faces in which none is found are left out."""

import numpy as np
import pytest
import torch
from face_sets import rafdb
from photographs import TEMPLATE, Scripted

from poster_ada.data.datasets import open_dataset
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.errors import InputError
from poster_ada.landmarks import main
from poster_ada.model.config import PRESETS
from poster_ada.recognition.points import real_points


class Sometimes(Scripted):
    """Finds a face in every second picture."""

    asked = 0

    def detect(self, image):
        self.asked += 1
        return super().detect(image) if self.asked % 2 else []


def test_faces_and_their_points_as_fractions_of_the_side(tmp_path):
    dataset, mini = open_dataset(rafdb(tmp_path, train=40, test=7)), PRESETS["mini"]
    real = real_points(dataset, Sometimes((20, 30, 50, 50)), mini, quiet=True)
    assert len(real.images) + len(real.held_out_images) == 20 and real.name == dataset.name
    expected = torch.from_numpy((np.array([20, 30]) + 50 * np.array(TEMPLATE)) / 100).float()
    torch.testing.assert_close(real.points, expected.expand(len(real.images), 5, 2))
    pictures = torch.cat([EvaluationTransform(48, 48, "grey")(dataset.train[i][0][None]) for i in range(40)])
    assert all((pictures == image).flatten(1).all(1).any() for image in real.images)
    with pytest.raises(InputError, match="finds faces in too few pictures"):
        real_points(dataset, Scripted(), mini, quiet=True)


def test_minis_weights_do_not_go_into_the_package(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--preset", "mini"])
    assert stopped.value.code == 2 and "say where to write them with --out" in capsys.readouterr().err

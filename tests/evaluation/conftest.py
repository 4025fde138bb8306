"""A face set and a tiny model that the tests of evaluation share."""

import pytest
import torch
from face_sets import rafdb
from small_runs import small

from poster_ada.data.datasets import open_dataset
from poster_ada.model.poster import Poster

TEST_FACES = 40


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """RAF-DB's layout: 14 training and 40 test faces."""
    return rafdb(tmp_path_factory.mktemp("faces"), train=14, test=TEST_FACES)


@pytest.fixture(scope="session")
def split(faces):
    return open_dataset(faces).test


@pytest.fixture
def tiny(faces):
    """Makes the smallest model, in evaluation mode, the same one for the same choices."""
    def make(**choices):
        torch.manual_seed(4)
        return Poster(small(faces, **choices).model).eval()

    return make

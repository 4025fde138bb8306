"""The five points of real faces, as a detector gives them, for training a landmark stream on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from poster_ada.data.layouts import Dataset
from poster_ada.data.splits import FaceSplit, split_train_validation
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.errors import InputError
from poster_ada.model.config import PosterConfig
from poster_ada.recognition.detector import FaceDetector
from poster_ada.training.landmarks import RealPoints

PROGRESS_AFTER = 5.0  # seconds


def real_points(dataset: Dataset, detector: FaceDetector, config: PosterConfig, quiet: bool = False) -> RealPoints:
    """Training faces (and validation faces, which judge) in which the detector finds a face.

    Raises:
        InputError: it finds a face in too few.
    """
    training, held_out = dataset.train, dataset.validation
    if held_out is None:
        training, held_out = split_train_validation(dataset.train)
    found = [*_found(training, detector, config, quiet), *_found(held_out, detector, config, quiet)]
    if min(map(len, found)) < 2:
        raise InputError(f"the detector finds faces in too few pictures of {dataset.root} to learn their points.")
    return RealPoints(dataset.name, *found)


def _found(split: FaceSplit, detector: FaceDetector, config: PosterConfig, quiet: bool) -> tuple[Tensor, Tensor]:
    """Images (M, 3, S, S), normalised, and points (M, 5, 2) as fractions of the side."""
    transform = EvaluationTransform(config.image_size, config.stream_size, config.channel_order)
    images, points = [], []
    for row in tqdm(range(len(split)), desc="points", unit="face", disable=quiet, delay=PROGRESS_AFTER, leave=False):
        picture = split[row][0]
        if faces := detector.detect(np.ascontiguousarray(picture.permute(1, 2, 0).numpy())):
            images.append(transform(picture[None]))
            points.append(torch.from_numpy(faces[0].points / (picture.shape[2], picture.shape[1])).float())
    size = config.stream_size
    return (torch.cat(images) if images else torch.empty(0, 3, size, size),
            torch.stack(points) if points else torch.empty(0, 5, 2))

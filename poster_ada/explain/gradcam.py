"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) on both streams, and where on the face its heat lies.

The maps and the faithfulness score come from the grad-cam library; here is only what fits them to this model.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget, ClassifierOutputTarget
from torch import Tensor

from poster_ada.errors import InputError
from poster_ada.model.poster import Poster

STREAMS = {"image_stream": "image stream", "landmark_stream": "landmark stream"}
# 300-W's numbering of 68 points, from 0.
REGIONS = {
    "mouth": [range(48, 68)],
    "eyes": [range(36, 42), range(42, 48)],
    "brows": [range(17, 22), range(22, 27)],
}


def grad_cam(model: Poster, images: Tensor, classes: Sequence[int], stream: str) -> np.ndarray:
    """Heat for the margin-free logit of one class per image.

    Args:
        model: in `eval()` mode.
        images: (B, 3, S, S), normalised.
        classes: B class numbers.
        stream: `image_stream` (published 14 x 14) or `landmark_stream` (7 x 7).

    Returns:
        (B, S, S) in 0..1, each map scaled to its own maximum.

    Raises:
        InputError: not one class for each image, a class that the model does not have, or no such stream.
    """
    numbers = _checked_classes(model, images, classes)
    if stream not in STREAMS:
        raise InputError(f"stream {stream!r} is unknown; choose one of {', '.join(STREAMS)}.")
    targets = [ClassifierOutputTarget(number) for number in numbers]
    with GradCAM(model, [getattr(model, stream)]) as cam:
        # The landmark stream is frozen: its map has a gradient only if the images ask for one.
        heat = cam(images.clone().requires_grad_(), targets)
    model.zero_grad(set_to_none=True)
    return heat


def _checked_classes(model: Poster, images: Tensor, classes: Sequence[int]) -> list[int]:
    """The class numbers, one for each image; the library would take the first ones, or count from the end."""
    numbers = [int(number) for number in classes]
    if len(numbers) != len(images):
        raise InputError(f"{len(numbers)} classes were given for {len(images)} images; give one class number for each.")
    if wrong := [number for number in numbers if not 0 <= number < model.config.num_classes]:
        raise InputError(f"there is no class {wrong[0]}; the model has 0 to {model.config.num_classes - 1} "
                         f"({', '.join(model.config.class_names)}).")
    return numbers


def region_masks(landmarks: np.ndarray, side: int, grow: float = 0.03) -> dict[str, np.ndarray]:
    """Where mouth, eyes and brows are.

    Args:
        landmarks: (B, 68, 2), x and y as fractions of the side.
        side: S, pixels.
        grow: every region's convex hull is grown by this fraction of the side.

    Returns:
        Per region a boolean (B, S, S). They do not overlap: brows give way to eyes.
    """
    radius = max(1, round(grow * side))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    masks = {name: np.zeros((len(landmarks), side, side), np.uint8) for name in REGIONS}
    for face, points in enumerate(np.round(landmarks * side - 0.5).astype(np.int32)):
        for name, groups in REGIONS.items():
            for group in groups:
                cv2.fillConvexPoly(masks[name][face], cv2.convexHull(points[list(group)]), 1)
            masks[name][face] = cv2.dilate(masks[name][face], kernel)
    regions = {name: mask.astype(bool) for name, mask in masks.items()}
    regions["brows"] &= ~regions["eyes"]
    return regions


def heat_shares(heat: np.ndarray, masks: dict[str, np.ndarray]) -> pd.DataFrame:
    """Share of each map's heat inside each region, and the region's share of the picture to compare it with.

    Args:
        heat: (B, S, S), not negative.
        masks: from `region_masks`.

    Returns:
        B rows; columns `<region>` and `<region>_area`, in 0..1. A map without any heat gives NaN.
    """
    total = heat.sum(axis=(1, 2))
    total = np.where(total > 0, total, np.nan)
    columns = {}
    for name, mask in masks.items():
        columns[name] = (heat * mask).sum(axis=(1, 2)) / total
        columns[f"{name}_area"] = mask.mean(axis=(1, 2))
    return pd.DataFrame(columns)


def road(model: Poster, images: Tensor, classes: Sequence[int], heat: np.ndarray,
         percentiles: Sequence[int] = (30, 50, 70)) -> np.ndarray:
    """Faithfulness (Rong et al. 2022, arXiv 2202.00449): (least relevant first - most relevant first) / 2.

    Pixels are replaced by a noisy linear interpolation of their neighbours and the change of the class's probability
    is taken. Above 0: what the map calls relevant matters more to the model than what it calls irrelevant.

    Args:
        model, images, classes: as in `grad_cam`.
        heat: (B, S, S).
        percentiles: shares of pixels kept, in percent, averaged over.

    Returns:
        (B,) in -1..1.

    Raises:
        InputError: as `grad_cam`.
    """
    targets = [ClassifierOutputSoftmaxTarget(number) for number in _checked_classes(model, images, classes)]
    return ROADCombined(list(percentiles))(images, heat, targets, model)


def random_heat(count: int, side: int, grid: int, seed: int) -> np.ndarray:
    """Maps (count, side, side) in 0..1 of random values on a grid x grid, as coarse and smooth as Grad-CAM's."""
    values = np.random.default_rng(seed).random((count, grid, grid), dtype=np.float32)
    return np.stack([cv2.resize(value, (side, side)) for value in values])

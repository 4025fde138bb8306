"""From pictures to a table of faces and their expressions.

    recognizer = poster_ada.Recognizer("mini-ferplus")
    faces = recognizer("photo.jpg")
    recognizer.draw("photo.jpg", faces).save("photo-annotated.jpg")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.checkpoints.names import checkpoint_path
from poster_ada.data.pictures import decode, pixels_of
from poster_ada.data.resize import resize_exactly
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.devices import choose_device
from poster_ada.errors import InputError
from poster_ada.evaluation.predictions import probability_columns
from poster_ada.model.fast import prediction_copy
from poster_ada.recognition.alignment import RAFDB_ESTIMATE, aligned
from poster_ada.recognition.cache import cached_detector
from poster_ada.recognition.closer import LEAST_AT_FIRST, LEAST_SCORE, looked_at_again
from poster_ada.recognition.detector import Detection, FaceDetector
from poster_ada.recognition.doubt import doubt_about
from poster_ada.recognition.drawing import annotated
from poster_ada.recognition.sources import is_video

DEFAULT_CHECKPOINT = "mini-ferplus"
CROPS = ("auto", "detect", "none")
HARDLY_LARGER = 1.5  # times the model's input: up to this size a picture without a found face is a face crop itself
POINTS = tuple(f"{name}_{axis}" for name in ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
               for axis in "xy")
PLACE = ("file", "face", "x", "y", "width", "height", "score")
BATCH = 32
MOST_EXPLAINED = 6  # faces of a picture
NO_FACE = "no face"

Picture = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor


class Face(NamedTuple):
    """A face to be recognised: its crop, uint8 (S, S, 3), where it was found (None: the whole picture is taken), and
    the detector's score (None: it was not asked)."""

    crop: np.ndarray
    found: Detection | None
    score: float | None


class Recognizer:
    """Finds faces, aligns them as the checkpoint expects, and names their expressions.

    Args:
        checkpoint: a file, or the name of one that comes with the package.
        crop: "detect" finds faces; "none" takes pictures that are faces already whole (the detector, where its file is
            at hand, then only says whether it sees a face there); "auto" finds faces, and takes a picture whole where
            there is none and it is hardly larger than a face crop.
        device: see devices.py.
        precision: "float32", "bfloat16", or "auto" (see model/precision.py).
        detector: the detector's file, where it should not be downloaded.
        least_score: detections with a lower score are left out, 0..1.

    Raises:
        InputError: no such checkpoint, device, score or way to crop; or the detector's file cannot be had.
    """

    def __init__(
        self, checkpoint: str | Path = DEFAULT_CHECKPOINT, crop: str = "auto", device: str = "auto",
        precision: str = "float32", detector: str | Path | None = None, least_score: float = LEAST_SCORE,
    ) -> None:
        if crop not in CROPS:
            raise InputError(f"crop {crop!r} is unknown; choose one of {', '.join(CROPS)}.")
        if not 0 <= least_score <= 1:
            raise InputError(f"least_score is {least_score}; it must lie in 0..1.")
        self.checkpoint, self.crop = checkpoint_path(checkpoint), crop
        self.device = choose_device(device)
        self.model = load_checkpoint(self.checkpoint).to(self.device)
        self.fast = prediction_copy(self.model, precision)
        c = self.model.config
        self.class_names = c.class_names
        self.transform = EvaluationTransform(c.image_size, c.stream_size, c.channel_order)
        self.template = self.model.face_template or RAFDB_ESTIMATE
        at_hand = crop != "none" or detector is not None or cached_detector().is_file()
        self.least_score = least_score
        self.detector = FaceDetector(detector, min(LEAST_AT_FIRST, least_score)) if at_hand else None

    @property
    def note(self) -> str | None:
        """What a user should know about the alignment, if anything."""
        if self.crop == "none" or self.model.face_template is not None:
            return None
        return (f"{self.checkpoint.name} does not say where it expects a face's points, so an estimate for RAF-DB is "
                "used; measure them on the faces it was trained on: python -m poster_ada.data template ROOT")

    def __call__(self, pictures: Picture | Sequence[Picture]) -> pd.DataFrame:
        """Recognise every face of one picture or of many, the largest of each picture first.

        Args:
            pictures: paths, PIL images, uint8 arrays (H, W, 3) RGB or (H, W), uint8 tensors (3, H, W), or a list.

        Returns:
            One row per face, in the pictures' order: `file` (its path, or its number in the list), `face` (from 1),
            box `x`, `y`, `width`, `height` and the five points in pixels, detection `score`, `prediction`,
            `confidence`, feature `norm`, `p_<class>` for every class, and `doubt`: "no face seen", "not sure" (see
            doubt.py) or nothing. A picture without a face has one row with face 0 and the prediction "no face". A
            picture that was taken whole has its own edges as box.

        Raises:
            InputError: a picture cannot be read, or is of another kind.
        """
        many: list[Any] = list(pictures) if isinstance(pictures, list | tuple) else [pictures]
        names = [str(each) if isinstance(each, str | os.PathLike) else str(number) for number, each in enumerate(many)]
        sizes, faces = [], []
        for each in many:  # one picture at a time is held, of the others their faces
            image = as_array(each)
            sizes.append(image.shape[:2])
            faces.append(self.faces_of(image))
        return self.table(names, sizes, faces)

    def faces_of(self, image: np.ndarray) -> list[Face]:
        """The faces of uint8 (H, W, 3), aligned; empty where there is none."""
        side = self.model.config.image_size
        if self.detector is not None and self.crop != "none":
            for look in (self.detector.detect, self.detector.detect_close_up):
                twice = [looked_at_again(image, each, self.template, self.detector) for each in look(image)]
                if found := [each for each in twice if each is not None and each.score >= self.least_score]:
                    return [Face(aligned(image, each.points, self.template, side), each, each.score) for each in found]
            if self.crop == "detect" or max(image.shape[:2]) > HARDLY_LARGER * side:
                return []
        crop = self._whole(image)
        return [Face(crop, None, self.detector.face_score(crop) if self.detector else None)]

    def _whole(self, image: np.ndarray) -> np.ndarray:
        """A picture that is a face already, at the model's size."""
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        return resize_exactly(pixels, self.model.config.image_size)[0].permute(1, 2, 0).numpy()

    def recognise(self, crops: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (S, S, 3) each -> probabilities (N, C) and feature norms (N,)."""
        probabilities, norms = [np.zeros((0, len(self.class_names)))], [np.zeros(0)]
        for start in range(0, len(crops), BATCH):
            batch = torch.from_numpy(np.stack(crops[start:start + BATCH])).permute(0, 3, 1, 2).to(self.device)
            with torch.inference_mode():
                features = self.fast.forward_features(self.transform(batch))
                logits = self.fast.forward_head(features)
            probabilities.append(logits.double().softmax(1).cpu().numpy())
            norms.append(features.norm.double().cpu().numpy())
        return np.concatenate(probabilities), np.concatenate(norms)

    def table(
        self, names: Sequence[str], sizes: Sequence[tuple[int, int]], found: Sequence[Sequence[Face]]
    ) -> pd.DataFrame:
        """The table of `__call__`, of pictures whose names, (height, width) and faces are these."""
        probabilities, norms = self.recognise([face.crop for faces in found for face in faces])
        rows: list[dict[str, Any]] = []
        columns, place = probability_columns(self.class_names), 0
        for name, (height, width), faces in zip(names, sizes, found, strict=True):
            if not faces:
                rows.append({"file": name, "face": 0, "prediction": NO_FACE})
            for number, face in enumerate(faces, 1):
                p = probabilities[place]
                row: dict[str, Any] = {"file": name, "face": number, "x": 0.0, "y": 0.0, "width": float(width),
                                       "height": float(height), "score": face.score}
                if face.found:
                    row |= dict(zip(("x", "y", "width", "height"), face.found.box, strict=True))
                    row |= dict(zip(POINTS, face.found.points.ravel().tolist(), strict=True))
                rows.append(row | {"prediction": self.class_names[p.argmax()], "confidence": p.max(),
                                   "norm": norms[place], **dict(zip(columns, p, strict=True)),
                                   "doubt": doubt_about(p.max(), face.score)})
                place += 1
        return pd.DataFrame(rows, columns=[*PLACE, *POINTS, "prediction", "confidence", "norm", *columns, "doubt"])

    def draw(self, image: Picture, faces: pd.DataFrame) -> Image.Image:
        """The picture with a box, the expression and its probability for every row of its table."""
        return annotated(as_array(image), faces)

    def crops(self, image: Picture, faces: pd.DataFrame) -> list[np.ndarray]:
        """Every face of a picture's table as the model sees it, uint8 (S, S, 3), aligned by the table's own points.

        Raises:
            InputError: the table has no points, as the one that the command writes; then nothing can be aligned.
        """
        pixels, shown = as_array(image), faces[faces["face"] > 0]
        if missing := set(POINTS) - set(faces):
            raise InputError(f"the table of faces has no column {min(missing)}; give the table that the recogniser "
                             "gave for this picture.")
        return [self._whole(pixels) if np.isnan(points).any() else aligned(
            pixels, points.reshape(-1, 2), self.template, self.model.config.image_size)
            for points in shown[list(POINTS)].to_numpy(float)]

    def input_of(self, crop: np.ndarray) -> Tensor:
        """A crop, uint8 (S, S, 3), as the model's input (1, 3, S, S)."""
        return self.transform(torch.from_numpy(crop).permute(2, 0, 1)[None].to(self.device))

    def explain(self, image: Picture, faces: pd.DataFrame, with_picture: bool = True) -> Image.Image:
        """The annotated picture, and below it the first faces of the table with the heat of Grad-CAM on both streams.

        Raises:
            InputError: as `crops`.
        """
        from poster_ada.recognition.explained import explained

        pixels, shown = as_array(image), faces[faces["face"] > 0].head(MOST_EXPLAINED)
        crops = self.crops(pixels, shown)
        inputs = [self.input_of(crop) for crop in crops]
        classes = [self.class_names.index(name) for name in shown["prediction"]]
        titles = [f"face {face.face}: {face.prediction}" for face in shown.itertuples()]
        return explained(self.model, annotated(pixels, faces) if with_picture else None,
                         list(zip(crops, inputs, classes, strict=True)), titles)


def taken_whole(faces: pd.DataFrame) -> pd.Series:
    """Which rows of a recogniser's table are pictures taken whole, in which no face was found."""
    return (faces["face"] > 0) & faces[POINTS[0]].isna()


def as_array(picture: Picture) -> np.ndarray:
    """Any picture as uint8 (H, W, 3), RGB. Raises InputError if it is none."""
    if isinstance(picture, str | os.PathLike):
        if kind := "folder" if os.path.isdir(picture) else "video" if is_video(Path(picture)) else "":
            raise InputError(f"{picture} is a {kind}, not a picture; those go to python -m poster_ada.predict.")
        if not os.path.isfile(picture):
            raise InputError(f"there is no picture {picture}; check the name.")
        return decode(picture)
    if isinstance(picture, Image.Image):
        return pixels_of(picture, "the picture")
    values = picture.detach().cpu().numpy() if isinstance(picture, Tensor) else picture
    if isinstance(picture, Tensor) and values.ndim == 3 and values.shape[0] in (1, 3):
        values = values.transpose(1, 2, 0)
    if isinstance(values, np.ndarray) and values.ndim == 2:
        values = values[..., None]
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.ndim != 3 or (
            values.shape[2] not in (1, 3) or not values.size):
        found = f"{getattr(values, 'dtype', type(values).__name__)} {getattr(values, 'shape', '')}".strip()
        raise InputError("a picture is a path, a PIL image, a uint8 array (H, W, 3) or (H, W), or a uint8 tensor "
                         f"(3, H, W), not {found}.")
    return np.ascontiguousarray(values if values.shape[2] == 3 else values.repeat(3, 2))

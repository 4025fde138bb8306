"""Intervals over seeds and faces: what they cover, and that scores agree with the ones of metrics.py."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from scipy.stats import ttest_1samp

from poster_ada.evaluation.hierarchical import (
    accuracy,
    confusions,
    draw_faces,
    faces_alone,
    holm,
    macro_f1,
    paired_interval,
    recall,
)

LABELS = np.arange(700) % 7


def predictions(shares, seed=1):
    """(S, 700): so many are right by seed, the wrong ones at random."""
    random = np.random.default_rng(seed)
    return np.stack([np.where(random.random(700) < share, LABELS, (LABELS + random.integers(1, 7, 700)) % 7)
                     for share in shares])


def test_scores_are_those_of_scikit_learn():
    said = predictions([0.6, 0.8])
    counts = confusions(LABELS, said, 7, draw_faces(700, 3))
    for seed in range(2):
        assert accuracy(counts)[seed, 0] == pytest.approx(100 * (said[seed] == LABELS).mean())
        assert macro_f1(counts)[seed, 0] == pytest.approx(
            100 * sklearn.metrics.f1_score(LABELS, said[seed], average="macro"), rel=1e-5)
        assert recall(3)(counts)[seed, 0] == pytest.approx(100 * (said[seed] == LABELS)[LABELS == 3].mean())
    some = LABELS < 5  # classes without a face are left out of macro F1, wrong guesses of them count
    counts = confusions(LABELS[some], said[:, some], 7, draw_faces(some.sum(), 1))
    assert macro_f1(counts)[0, 0] == pytest.approx(100 * sklearn.metrics.f1_score(
        LABELS[some], said[0, some], average="macro", labels=range(5)), rel=1e-5)


def test_seeds_alone_give_students_interval():
    """Models that are right or wrong on all faces of a kind alike leave the faces little to vary."""
    draws = np.ones((20_001, 700), np.float32)  # no draw of faces
    ours, theirs = predictions([0.80, 0.76, 0.79, 0.75, 0.78]), predictions([0.70, 0.71, 0.69, 0.70, 0.72], 2)
    counts = [confusions(LABELS, said, 7, draws[:4001]) for said in (ours, theirs)]
    found = paired_interval(accuracy, *counts)
    differences = 100 * ((ours == LABELS).mean(1) - (theirs == LABELS).mean(1))
    low, high = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert found["difference"] == pytest.approx(differences.mean())
    assert found["high"] - found["low"] == pytest.approx(high - low, rel=0.1)
    low, _ = ttest_1samp(differences, 0, alternative="greater").confidence_interval(0.95)
    assert found["one_sided_low"] == pytest.approx(low, abs=0.15 * (found["difference"] - low))
    assert faces_alone(accuracy, *counts) == pytest.approx(0, abs=1e-4)


def test_no_interval_reaches_beyond_what_a_recall_can_differ_by():
    counts = [confusions(LABELS, predictions(shares, seed), 7, draw_faces(700, 50))
              for seed, shares in ((1, [1.0, 0.6]), (2, [0.0, 0.0]))]
    found = paired_interval(recall(3), *counts)
    assert found["high"] == 100 and found["difference"] < 100 and -100 <= found["low"]


def test_faces_alone_give_their_standard_error():
    said, base = predictions([0.8]), predictions([0.75], 2)
    counts = [confusions(LABELS, np.repeat(rows, 3, 0), 7, draw_faces(700)) for rows in (said, base)]
    found = paired_interval(accuracy, *counts)
    error = 100 * ((said == LABELS).astype(int) - (base == LABELS)).std() / np.sqrt(700)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert found["low"] < found["one_sided_low"] < found["difference"] < found["high"]
    assert np.isnan(paired_interval(accuracy, counts[0][:1], counts[1][:1])["low"])
    assert faces_alone(accuracy, *counts) == pytest.approx(1.645 * error, rel=0.08)
    assert faces_alone(accuracy, *counts) == pytest.approx(found["difference"] - found["one_sided_low"])


def test_holms_correction():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, np.nan, 0.9, 0.001]) == pytest.approx([1.0, np.nan, 1.0, 0.003], nan_ok=True)
    assert len(holm(pd.Series([], dtype=float))) == 0

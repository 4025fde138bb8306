"""One temperature, fitted on labelled faces, undoes confidence that is too high or too low."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from poster_ada.evaluation.metrics import calibration_error
from poster_ada.evaluation.predictions import probability_columns
from poster_ada.evaluation.temperature import fit_temperature
from poster_ada.expressions import RAFDB_CLASSES


def drawn(temperature, faces=20_000, seed=1):
    """Predictions whose logits are `temperature` times those that the labels were drawn from."""
    random, names = np.random.default_rng(seed), np.array(RAFDB_CLASSES, dtype=object)
    logits = random.normal(size=(faces, 7)) * 2
    labels = (softmax(logits, 1).cumsum(1) > random.random((faces, 1))).argmax(1)
    table = pd.DataFrame({"file": np.arange(faces).astype(str), "label": names[labels],
                          "prediction": names[logits.argmax(1)], "norm": 1.0})
    table[probability_columns(RAFDB_CLASSES)] = softmax(temperature * logits, 1)
    return table


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0, 12.0])
def test_the_temperature_that_distorted_is_found(temperature):
    assert fit_temperature(drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def test_confidences_then_mean_what_they_say():
    before = drawn(3.0)
    after, names = before.copy(), probability_columns(RAFDB_CLASSES)
    after[names] = softmax(np.log(before[names]) / fit_temperature(before), 1)
    assert calibration_error(before) > 0.1 and calibration_error(after) < 0.02


def test_impossible_probabilities_do_no_harm():
    table = drawn(1.0, faces=50)
    table[probability_columns(RAFDB_CLASSES)] = np.eye(7)[np.arange(50) % 7]
    assert 1 < fit_temperature(table) <= 100

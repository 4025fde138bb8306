"""Temperature scaling: one number, fitted on validation faces, that makes a model's confidences mean what they say.

Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017 (arXiv 1706.04599), section 4.2.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from poster_ada.evaluation.predictions import class_names_of, probabilities_of

RANGE = (0.02, 100.0)  # AdaFace's logits at scale 64 need about 10


def fit_temperature(predictions: pd.DataFrame) -> float:
    """The temperature with the least negative log-likelihood of the labels, within `RANGE`.

    Args:
        predictions: of a model whose temperature is 1, on faces that it was not trained on.
    """
    logits = np.log(np.maximum(probabilities_of(predictions), np.finfo(float).tiny))
    labels = pd.Index(class_names_of(predictions)).get_indexer(predictions["label"])

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(labels)), labels].mean())

    return math.exp(minimize_scalar(loss, bounds=tuple(map(math.log, RANGE)), method="bounded").x)

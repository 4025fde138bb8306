"""Is one model as good as another? Intervals that cover the training seeds and the test faces at once.

    draws = draw_faces(len(labels))
    ours, theirs = (confusions(labels, predictions, 7, draws) for predictions in (adaface, mlp))  # (S, N) each
    paired_interval(accuracy, ours, theirs)     # {"difference": -1.2, "low": ..., "high": ..., "one_sided_low": ...}

Hierarchical bootstrap: each resample draws faces, the same for all seeds, and seeds, the same for both models. A few
seeds drawn with replacement vary too little; what the draw of seeds adds is therefore widened by sqrt(n / (n - 1)) and
by Student's t over the normal quantile, so that seeds alone would give the paired t interval.

Where many settings have one or two seeds each, `Spread` takes what seeds change from all of them together, as a
randomised block design does: a setting and a seed add up, and the rest is chance of equal size everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student_t

RESAMPLES = 2_000
SEED = 123
LEVEL = 0.05  # a corrected p at or above it shows nothing
Measure = Callable[[np.ndarray], np.ndarray]  # of confusion counts (..., C, C), in percent


def draw_faces(count: int, resamples: int = RESAMPLES) -> np.ndarray:
    """float32 (R + 1, N): how often each face is in each resample; the first row is the faces as they are."""
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.concatenate([np.ones((1, count)), drawn]).astype(np.float32)


def confusions(labels: np.ndarray, predictions: np.ndarray, num_classes: int, draws: np.ndarray) -> np.ndarray:
    """float32 (S, R + 1, C, C), rows are true classes: of labels (N,) and each seed's predictions (S, N)."""
    cells = np.eye(num_classes**2, dtype=np.float32)
    counts = [draws @ cells[labels.astype(int) * num_classes + row] for row in predictions.astype(int)]
    return np.stack(counts).reshape(len(predictions), len(draws), num_classes, num_classes)


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Percent on the diagonal."""
    return 100 * np.trace(counts, axis1=-2, axis2=-1) / counts.sum((-2, -1))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 in percent over the classes that have a face."""
    hits, true, said = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)
    return 100 * (2 * hits / np.maximum(true + said, 1)).sum(-1) / (true > 0).sum(-1)


def recall(label: int) -> Measure:
    """Percent of a class's faces that are found; NaN where it has none."""
    def measure(counts: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return 100 * counts[..., label, label] / counts[..., label, :].sum(-1)

    return measure


@dataclass(frozen=True)
class Spread:
    """Standard deviation of a run about the sum of its setting's and its seed's effect, and its degrees of freedom."""

    deviation: float
    freedom: int

    @classmethod
    def of(cls, values: pd.Series) -> Spread:
        """From a value per (setting, seed); not every setting needs every seed."""
        of_settings, of_seeds = (pd.get_dummies(values.index.get_level_values(level)) for level in (0, 1))
        effects, found = np.hstack([of_settings, of_seeds]).astype(float), values.to_numpy(float)
        fitted, _, rank, _ = np.linalg.lstsq(effects, found)
        freedom = len(found) - int(rank)
        squares = float(((found - effects @ fitted) ** 2).sum())
        return cls(float(np.sqrt(squares / freedom)) if freedom else float("nan"), freedom)

    def interval(self, difference: float, seeds: int, over_faces: float = 0.0) -> dict[str, float]:
        """`low`, `high`, `one_sided_low`, as of `paired_interval`, and `p` over seeds of a mean difference of two
        settings with the same seeds; NaN without degrees of freedom.

        Args:
            over_faces: standard deviation that the draw of faces adds.
        """
        if not self.freedom or not self.deviation:
            return dict.fromkeys(("low", "high", "one_sided_low", "p"), float("nan"))
        error = self.deviation * np.sqrt(2 / seeds)
        both, one = (float(np.hypot(student_t.ppf(level, self.freedom) * error, norm.ppf(level) * over_faces))
                     for level in (0.975, 0.95))
        return {"low": difference - both, "high": difference + both, "one_sided_low": difference - one,
                "p": float(2 * student_t.sf(abs(difference) / error, self.freedom))}


def paired_interval(measure: Measure, ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Difference of the measure, ours less theirs, over paired seeds, from `confusions` of the same draws.

    Returns:
        `difference`; `low`, `high`: its 95 % interval; `one_sided_low`: the lower end of the one-sided 95 % interval,
        for non-inferiority; NaN for a single seed, `difference` apart. Points of a percentage: ends lie within 100.
    """
    each = measure(ours) - measure(theirs)
    seeds, resamples = len(each), each.shape[1] - 1
    found = {"difference": float(each[:, 0].mean())}
    if seeds < 2:
        return found | dict.fromkeys(("low", "high", "one_sided_low"), float("nan"))
    drawn = each[:, 1:]
    middle = drawn.mean(0)
    picks = np.random.default_rng(SEED).integers(seeds, size=(seeds, resamples))
    moved = np.take_along_axis(drawn, picks, 0).mean(0) - middle

    def end(share: float) -> float:
        level = abs(share - 0.5) + 0.5
        wider = np.sqrt(seeds / (seeds - 1)) * student_t.ppf(level, seeds - 1) / norm.ppf(level)
        return float(np.clip(np.nanpercentile(middle + wider * moved, 100 * share), -100, 100))

    return found | {"low": end(0.025), "high": end(0.975), "one_sided_low": end(0.05)}


def faces_alone(measure: Measure, ours: np.ndarray, theirs: np.ndarray) -> float:
    """What the draw of test faces leaves open however many seeds there are: how far, in points, the one-sided 95 %
    interval of `paired_interval` would reach below the difference if seeds changed nothing."""
    each = (measure(ours) - measure(theirs)).mean(0)
    return float(each[0] - np.nanpercentile(each[1:], 5))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values corrected for the number of them that there are (Holm 1979); NaN stays NaN and does not count."""
    values = np.asarray(p_values, float)
    corrected = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1.0)
    return corrected

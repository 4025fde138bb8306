"""Whether training in bfloat16 costs accuracy: the same trainings in both precisions, several seeds, side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poster_ada.data.layouts import Dataset
from poster_ada.paper.ablation import seed_interval
from poster_ada.training.recipe import fit_recipe
from poster_ada.training.side_by_side import train_all

SEEDS = (1, 2, 3)
PRECISIONS = ("float32", "bfloat16")


def precision_rows(dataset: Dataset, preset: str = "nano", epochs: int | None = None) -> list[dict]:
    """One row per precision: faces per second and test scores, means over seeds, with the 95 % interval over seeds;
    and one of the paired differences, bfloat16 less float32, in which `largest_difference` is that of the two mean
    curves of validation accuracy over the last half of the epochs."""
    configs = [fit_recipe(dataset, preset, seed=seed, precision=precision, epochs=epochs)
               for seed in SEEDS for precision in PRECISIONS]
    runs = train_all(configs, dataset, "cpu")
    found: dict[str, pd.DataFrame] = {}
    curves = {}
    for number, precision in enumerate(PRECISIONS):
        own = runs[number::len(PRECISIONS)]
        found[precision] = pd.DataFrame([{
            "rate": run.record["median_images_per_second"], "accuracy": run.record["test"]["accuracy"],
            "macro_f1": run.record["test"]["macro_f1"]} for run in own])
        curves[precision] = np.mean([run.log["validation_accuracy"] for run in own], axis=0)
    single, half = (found[precision] for precision in PRECISIONS)
    shared = {"part": "precision", "model": preset, "batch": configs[0].batch_size}
    rows = [shared | {"way": name, "rate": values["rate"].median(), "low": values["rate"].min(),
                      "high": values["rate"].max(), "unit": "images/s", "faces": len(dataset.test),
                      **over_seeds(values["accuracy"]), "macro_f1": values["macro_f1"].mean()}
            for name, values in found.items()]
    later = slice(len(curves["float32"]) // 2, None)
    return [*rows, shared | {
        "way": "bfloat16 less float32", **over_seeds(half["accuracy"] - single["accuracy"]),
        "macro_f1": (half["macro_f1"] - single["macro_f1"]).mean(),
        "largest_difference": float(np.abs(curves["bfloat16"][later] - curves["float32"][later]).max())}]


def over_seeds(values: pd.Series) -> dict[str, float]:
    """Mean and 95 % interval (Student's t) over seeds."""
    mean, half = values.mean(), seed_interval(values)
    return {"accuracy": mean, "accuracy_low": mean - half, "accuracy_high": mean + half}

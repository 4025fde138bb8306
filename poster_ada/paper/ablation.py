"""The report's Table 1 again, row by row, under both test protocols and over several seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp

from poster_ada.data.layouts import Dataset
from poster_ada.evaluation.metrics import compute_metrics
from poster_ada.evaluation.predict import predict_split
from poster_ada.evaluation.predictions import read_predictions, write_predictions
from poster_ada.model.config import PRESETS
from poster_ada.paper.reported import reported_results
from poster_ada.training.recipe import VARIANTS, TrainConfig, fit_recipe
from poster_ada.training.runs import LABEL_MARGIN_TABLE, Run
from poster_ada.training.side_by_side import train_all

# How the report's results name their variants.
REPORTED_VARIANTS = {None: {}, "mlp_feature": VARIANTS["mlp"], "augmentation": VARIANTS["da"],
                     "image_feature_norm": VARIANTS["irf"]}
SEEDS = (1, 2, 3)
FAST_ROWS = ("POSTER-s", "POSTER-Ada-s, m = 0.4")  # for a check that everything runs
# `nano` cannot be small, base and large; its sizes differ in depth alone.
NANO_DEPTHS = {"small": 1, "base": 2, "large": 3}


@dataclass(frozen=True)
class Row:
    """A row of the table: what differs from the recipe, and what the report says (percent, on RAF-DB) if it does."""

    name: str
    size: str
    head: str
    margin: float | None = None
    choices: dict[str, Any] = field(default_factory=dict)
    reported: float | None = None


def table_rows() -> list[Row]:
    """The report's nine rows, then ArcFace and CosFace, which it lacks."""
    rows = [
        Row(row["model"] + (f", m = {row['margin']}" if row["margin"] else ""), row["size"], row["head"], row["margin"],
            REPORTED_VARIANTS[row["variant"]], row["accuracy"])
        for row in reported_results()["table_1"]
    ]
    return [*rows, Row("POSTER-Arc-s, m = 0.5", "small", "arcface", 0.5),
            Row("POSTER-Cos-s, m = 0.4", "small", "cosface", 0.4)]


def row_config(row: Row, dataset: Dataset, preset: str, seed: int, epochs: int | None = None) -> TrainConfig:
    """The training of one row: `nano` in the row's depth, or the published preset of the row's size."""
    size = {"depth": NANO_DEPTHS[row.size]} if preset == "nano" else {}
    choices = {"head": row.head, "margin": row.margin, "seed": seed, "epochs": epochs} | size | row.choices
    return fit_recipe(dataset, preset if preset == "nano" else row.size, "ablation", **choices)


def size_of(row: Row, preset: str) -> str:
    """How the row's model is called in the table of results: by depth for `nano`, else by its preset."""
    depth = NANO_DEPTHS[row.size] if preset == "nano" else PRESETS[row.size].depth
    return f"{preset if preset == 'nano' else row.size}, depth {depth}"


def label_margin_predictions(run: Run, dataset: Dataset) -> pd.DataFrame:
    """What the report's protocol counts for a run's chosen model on the test split, kept in the run's folder."""
    path = run.path / LABEL_MARGIN_TABLE
    if not path.is_file():
        write_predictions(predict_split(run.model("best"), dataset.test, protocol="label-margin", quiet=True), path)
    return read_predictions(path)


def run_ablation(
    rows: Sequence[Row], dataset: Dataset, preset: str, seeds: Sequence[int], epochs: int | None = None,
    device: str = "auto",
) -> Iterator[dict[str, Any]]:
    """Train (or take from `runs/`) every row with every seed, side by side; yields the results in that order.

    A result has `row`, `size`, `head`, `seed`, `run`; `margin_free` and `label_margin` accuracy and `macro_f1` in
    percent; and `right`, bool (N,), whether each test face is classified rightly, margin-free.
    """
    pairs = [(row, seed) for row in rows for seed in seeds]
    runs = train_all([row_config(row, dataset, preset, seed, epochs) for row, seed in pairs], dataset, device)
    for (row, seed), run in zip(pairs, runs, strict=True):
        free = read_predictions(run.path / "predictions.csv")
        scores = compute_metrics(free, intervals=False)
        # A head without a margin gives the same under both protocols.
        flawed = free if row.head == "mlp" else label_margin_predictions(run, dataset)
        yield {
            "row": row.name, "size": size_of(row, preset), "head": row.head, "seed": seed, "run": run.path.name,
            "margin_free": 100 * scores["accuracy"],
            "label_margin": 100 * compute_metrics(flawed, intervals=False)["accuracy"],
            "macro_f1": 100 * scores["macro_f1"],
            "right": (free["label"] == free["prediction"]).to_numpy(),
        }


def seed_interval(values: Sequence[float]) -> float:
    """Half width of the 95 % interval of the mean over seeds (Student's t); NaN for a single seed."""
    if len(values) < 2:
        return float("nan")
    return float(student_t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def paired_test(differences: Sequence[float]) -> dict[str, float]:
    """Paired t-test: `difference` (the mean), its 95 % interval `difference_low`, `difference_high`, and `p`."""
    test = ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval(0.95)
    return {"difference": float(np.mean(differences)), "difference_low": float(low), "difference_high": float(high),
            "p": float(test.pvalue)}


def summarise(results: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    """One line per row of the table, in percent: both protocols with intervals over seeds, and a paired test.

    `difference` is the margin-free accuracy minus that of the MLP head of the same size. Its interval and `p` are a
    paired t-test over the test faces, each counted by the share of seeds that classify it rightly.
    """
    lines = []
    for row in rows:
        own = results[results["row"] == row.name]
        line = {"model": row.name, "size": own["size"].iloc[0], "reported on RAF-DB": row.reported, "seeds": len(own)}
        for column in ("label_margin", "margin_free", "macro_f1"):
            line |= {column: own[column].mean(), f"{column}_interval": seed_interval(own[column])}
        mlp = results[(results["head"] == "mlp") & (results["size"] == line["size"])]
        if row.head != "mlp" and len(mlp):
            gap = 100 * (np.mean(own["right"].tolist(), axis=0) - np.mean(mlp["right"].tolist(), axis=0))
            line |= paired_test(gap)
        lines.append(line)
    return pd.DataFrame(lines)

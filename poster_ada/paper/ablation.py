"""The report's Table 1 again, row by row, under both test protocols and over several seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp

from poster_ada.data.layouts import Dataset
from poster_ada.evaluation.hierarchical import holm
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
# The measures of a comparison, and how the columns of each begin.
COMPARED = {"label_margin": "label_margin_", "margin_free": "", "macro_f1": "macro_f1_"}
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
    percent.
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
        }


def seed_interval(values: Sequence[float]) -> float:
    """Half width of the 95 % interval of the mean over seeds (Student's t); NaN for a single seed."""
    if len(values) < 2:
        return float("nan")
    return float(student_t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def paired_test(differences: Sequence[float]) -> dict[str, float]:
    """Paired t-test: `difference` (the mean), its 95 % interval `difference_low`, `difference_high`, and `p`; these
    three are NaN for a single pair."""
    if len(differences) < 2:
        return {"difference": float(np.mean(differences))} | dict.fromkeys(
            ("difference_low", "difference_high", "p"), float("nan"))
    test = ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval(0.95)
    return {"difference": float(np.mean(differences)), "difference_low": float(low), "difference_high": float(high),
            "p": float(test.pvalue)}


def paired_over_seeds(ours: pd.DataFrame, theirs: pd.DataFrame, measures: Mapping[str, str]) -> dict[str, float]:
    """`paired_test` of each measure, ours less theirs, over the seeds that both have.

    Args:
        ours, theirs: one row per seed, with the columns `seed` and those of the measures.
        measures: column -> what is put before the test's names, such as "macro_f1_" for `macro_f1_difference`.
    """
    ours, theirs = (table.set_index("seed") for table in (ours, theirs))
    seeds = ours.index.intersection(theirs.index)
    return {f"{prefix}{name}": value for column, prefix in measures.items()
            for name, value in paired_test((ours[column] - theirs[column]).loc[seeds].to_numpy()).items()}


def mlp_of(results: pd.DataFrame, size: str) -> pd.DataFrame:
    """The results of the MLP head of this size, one per seed."""
    return results[(results["head"] == "mlp") & (results["size"] == size)]


def summarise(results: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    """One line per row of the table, in percent: both protocols with intervals over seeds, and paired tests.

    For each margin head, `difference` is the margin-free accuracy less that of the MLP head of the same size,
    `label_margin_difference` the label-margin count less it, `macro_f1_difference` the same of macro F1. All intervals
    and p-values are paired over seeds. `p_holm` and `macro_f1_p_holm` are corrected for the table's margin heads.
    """
    lines = []
    for row in rows:
        own = results[results["row"] == row.name]
        line = {"model": row.name, "size": own["size"].iloc[0], "reported on RAF-DB": row.reported, "seeds": len(own)}
        for column in ("label_margin", "margin_free", "macro_f1"):
            line |= {column: own[column].mean(), f"{column}_interval": seed_interval(own[column])}
        mlp = mlp_of(results, own["size"].iloc[0])
        if row.head != "mlp" and len(mlp):
            line |= paired_over_seeds(own, mlp, COMPARED)
        lines.append(line)
    table = pd.DataFrame(lines)
    for prefix in ("", "macro_f1_"):
        if f"{prefix}p" in table:
            table.insert(table.columns.get_loc(f"{prefix}p") + 1, f"{prefix}p_holm", holm(table[f"{prefix}p"]))
    return table.drop(columns="label_margin_p", errors="ignore")


def gaps_by_seed(results: pd.DataFrame) -> pd.DataFrame:
    """One line per seed: the mean over all margin heads of their gap to the MLP head of the same size, in points, of
    the `label_margin` count, the `margin_free` accuracy and `macro_f1`."""
    margin = results[results["head"] != "mlp"]
    mlp = results[results["head"] == "mlp"].set_index(["size", "seed"])[list(COMPARED)]
    theirs = mlp.reindex(pd.MultiIndex.from_frame(margin[["size", "seed"]])).set_axis(margin.index)
    return (margin[list(COMPARED)] - theirs).groupby(margin["seed"]).mean()

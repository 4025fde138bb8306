"""Figures of the FER+ study, and the command's one call that writes them and every table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from poster_ada.data.ceiling import BEST_HIGHEST, BEST_LOW, LEADING, SECOND_ROUND
from poster_ada.palette import BLACK, BLUE, GREEN, NEUTRAL_COLOUR, ORANGE, PALE, PURPLE, SKY_BLUE, VERMILION, shade
from poster_ada.paper.ferplus_choice import MARGINS
from poster_ada.paper.ferplus_classes import classes_table, draw_classes, sentences
from poster_ada.paper.ferplus_grid import LENGTHS, SEARCHED, SHORT, TABLE
from poster_ada.paper.ferplus_quality import quality_table
from poster_ada.paper.ferplus_results import CLASS_NAMES, FerplusResults, setting_name
from poster_ada.paper.ferplus_summary import (
    comparisons,
    design_table,
    findings,
    heads_table,
    recalls_table,
    trend_table,
)
from poster_ada.paper.figures import COLUMN_WIDTH, PAGE_WIDTH, apply_style, save_figure, save_table

CEILING = "ferplus_ceiling.csv"  # of `python -m poster_ada.data ceiling`
SEEDS_OF_MINI = "ferplus_seeds.csv"
PUBLISHED = 91.62  # POSTER on FER+, 8 classes (Zheng et al. 2022)
COLOURS = {"mlp": BLUE, "adaface-m0.4": VERMILION, "adaface-m0.75": ORANGE, "cosface": GREEN, "arcface": PURPLE}
RISE = np.log(46.5)  # the recipe's loss, 7 classes, is smallest this over s above the margin


def draw_heads(results: FerplusResults) -> plt.Figure:
    """Accuracy and macro F1 of the published heads against the length of training."""
    heads = heads_table(results).loc[["published"]]
    fig, axes = plt.subplots(1, 3, figsize=(PAGE_WIDTH, 2.2))
    for axis, (column, name) in zip(axes, (("accuracy", "accuracy"), ("label_margin_accuracy", "label-margin accuracy"),
                                           ("macro_f1", "macro F1")), strict=True):
        for number, setting in enumerate(dict.fromkeys(heads["setting"])):
            own = heads[heads["setting"] == setting].sort_values("epochs")
            axis.errorbar(own["epochs"] * 1.02**number, own[column], own[f"{column}_interval"].fillna(0), fmt="o-",
                          markersize=3, elinewidth=0.8, color=COLOURS.get(setting, NEUTRAL_COLOUR),
                          label=setting_name(setting))
        axis.set_xscale("log", base=2)
        axis.set(title=f"{name} (%)", xlabel="epochs", xticks=sorted(LENGTHS), xticklabels=sorted(LENGTHS))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return fig


def draw_recalls(results: FerplusResults) -> plt.Figure:
    """Recall of each class less MLP's, on test faces after the shortest training."""
    table = recalls_table(results)
    own = table[(table["epochs"] == SHORT) & (table["preset"] == "nano") & ~table.index.isin(SEARCHED)]
    settings = list(dict.fromkeys(own["setting"]))
    fig, axis = plt.subplots(figsize=(PAGE_WIDTH, 2.4))
    colours = COLOURS | dict(zip([name for name in settings if name not in COLOURS],
                                 (SKY_BLUE, BLACK, NEUTRAL_COLOUR, PALE), strict=False))
    for number, setting in enumerate(settings):
        values = own[own["setting"] == setting].groupby("class").first().loc[list(CLASS_NAMES)]
        places = np.arange(len(values)) + 0.8 * ((number + 0.5) / len(settings) - 0.5)
        ends = np.abs(values[["low", "high"]].to_numpy() - values[["difference"]].to_numpy()).T
        axis.errorbar(places, values["difference"], np.nan_to_num(ends), fmt="o", markersize=3, elinewidth=0.8,
                      color=colours.get(setting, NEUTRAL_COLOUR), label=setting_name(setting))
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set(xticks=range(len(CLASS_NAMES)), xticklabels=CLASS_NAMES, ylabel="recall less MLP's (points)")
    fig.legend(loc="outside upper center", ncols=5)
    return fig


def draw_gaps(results: FerplusResults) -> plt.Figure:
    """How far the true class's cosine is above the next on test faces, by length of training, with m drawn in."""
    table = results.table
    own = table[(table["part"] == "published") & (table["head"] == "adaface")]
    settings = sorted(set(own["setting"]))
    fig, axes = plt.subplots(1, len(settings), figsize=(PAGE_WIDTH / 2 * len(settings), 2.2), squeeze=False)
    bins = np.linspace(-1.2, 1.2, 97)
    for axis, setting in zip(axes[0], settings, strict=True):
        rows = own[own["setting"] == setting]
        for epochs in sorted(set(rows["epochs"])):
            runs = rows.loc[rows["epochs"] == epochs, "id"]
            gaps = np.concatenate([results.predictions(run)["gap"] for run in runs]).astype(float)
            axis.hist(gaps, bins, density=True, histtype="step", label=f"{epochs} epochs",
                      color=shade(COLOURS.get(setting, VERMILION), 0.6 - 0.6 * sorted(LENGTHS).index(epochs) / 2))
        margin, scale = rows[["margin", "scale"]].iloc[0]
        axis.axvline(0, color="black", linewidth=0.6)
        axis.axvline(margin, color="black", linestyle="--", linewidth=0.8, label=f"m = {margin:g}")
        axis.axvline(margin + RISE / scale, color="black", linestyle=":", linewidth=0.8,
                     label=f"m + 3.8 / s = {margin + RISE / scale:.2f}")
        axis.set(title=setting_name(setting), xlabel="cosine gap of the true class to the next", yticks=[])
        axis.legend(loc="upper left")
    axes[0, 0].set_ylabel("share of test faces")
    return fig


def draw_trend(results: FerplusResults) -> plt.Figure:
    """Deficits and the protocol's artefact against the length of training, with 95 % intervals over seeds."""
    table = trend_table(results)
    lengths = [epochs for epochs in sorted(LENGTHS) if f"at_{epochs}" in table]
    measures = list(dict.fromkeys(table["measure"]))
    fig, axes = plt.subplots(1, len(measures), figsize=(PAGE_WIDTH, 1.9), squeeze=False)
    for axis, measure in zip(axes[0], measures, strict=True):
        for number, (setting, line) in enumerate(table[table["measure"] == measure].iterrows()):
            own = [epochs for epochs in lengths if not np.isnan(line[f"at_{epochs}"])]
            values, halves = ([line[f"{name}_{epochs}"] for epochs in own] for name in ("at", "interval"))
            axis.errorbar(np.array(own) * 1.03**number, values, np.nan_to_num(halves), fmt="o-", markersize=3,
                          elinewidth=0.8, label=setting_name(str(setting)),
                          color=COLOURS.get(str(setting), NEUTRAL_COLOUR))
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set_xscale("log", base=2)
        axis.set(title=measure, xlabel="epochs", xticks=lengths, xticklabels=lengths)
    axes[0, 0].set_ylabel("points")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def draw_search(results: FerplusResults) -> plt.Figure:
    """Each ingredient's setting less MLP on validation faces, with 95 % intervals; the published setting is dashed."""
    pairs = comparisons(results)
    own = pairs[(pairs.index == "ingredients") & pairs["baseline"].str.endswith("mlp")].iloc[::-1]
    fig, axes = plt.subplots(1, 2, figsize=(PAGE_WIDTH, 0.7 + 0.17 * len(own)), sharey=True)
    places = np.arange(len(own))
    for axis, (name, margin), words in zip(axes, MARGINS.items(), ("accuracy", "macro F1"), strict=True):
        found = own[f"{name}_difference"]
        axis.errorbar(found, places, xerr=(own[f"{name}_high"] - found).fillna(0), fmt="o", markersize=3,
                      elinewidth=0.8, color=VERMILION)
        axis.axvline(0, color="black", linewidth=0.6)
        axis.axvline(-margin, color=NEUTRAL_COLOUR, linestyle=":", linewidth=0.8)
        for published in found[own["setting"] == "published"]:
            axis.axvline(published, color=VERMILION, linestyle="--", linewidth=0.6)
        axis.set(title=f"{words} less MLP's, validation (points)", yticks=places, yticklabels=own["setting"])
    return fig


def models_and_ceiling(results: FerplusResults) -> pd.DataFrame:
    """Accuracy of the published POSTER, the shipped model and the study's settings, and what is left of it to a second
    round of votes and to the ends of the best guess, with as many classes each, in points."""
    path = results.folder / CEILING
    if not path.is_file():
        return pd.DataFrame()
    of_all = pd.read_csv(path).query("label == 'all'").set_index(["classes", "quantity"])
    models = [("POSTER, published", 8, PUBLISHED)]
    if (shipped := results.folder / SEEDS_OF_MINI).is_file():
        models.append(("mini-ferplus, mean of its seeds", 8, pd.read_csv(shipped)["accuracy"].mean()))
    if results.has_rows:
        heads = heads_table(results)
        models += [(f"{setting_name(line['setting'])}, {line['preset']}, {line['epochs']} epochs"
                    + ", fresh seeds" * (part == "confirm"), 7, line["accuracy"])
                   for part, line in heads[~heads.index.isin(SEARCHED)].iterrows()]
    lines = []
    for name, classes, value in models:
        line = {"model": name, "classes": classes, "accuracy": value}
        for column, quantity in (("leading_class", LEADING), ("second_round", SECOND_ROUND),
                                 ("best_guess_low", BEST_LOW), ("best_guess_high", BEST_HIGHEST)):
            found = of_all.loc[(classes, quantity)]
            line |= {f"to_{column}": found["percent"] - value, f"to_{column}_from": found["low"] - value,
                     f"to_{column}_up_to": found["high"] - value}
        lines.append(line)
    return pd.DataFrame(lines).set_index("model")


def draw_ceiling(results: FerplusResults) -> plt.Figure:
    """Where the models stand in the band of the best possible guess."""
    table = models_and_ceiling(results)
    of_all = pd.read_csv(results.folder / CEILING).query("label == 'all'").set_index(["classes", "quantity"])
    fig, axis = plt.subplots(figsize=(COLUMN_WIDTH * 1.5, 0.9 + 0.17 * len(table)))
    places = np.arange(len(table))[::-1]
    for place, (_, line) in zip(places, table.iterrows(), strict=True):
        ends = [of_all.loc[(line["classes"], name), "percent"] for name in (LEADING, SECOND_ROUND, BEST_HIGHEST)]
        axis.barh(place, ends[1] - ends[0], left=ends[0], height=0.8, color=shade(GREEN, 0.85),
                  label="second round of votes: its leading class to its majority")
        axis.barh(place, ends[2] - ends[1], left=ends[1], height=0.8, color=shade(GREEN, 0.6),
                  label="from there to the best possible guess")
        axis.plot(line["accuracy"], place, "o", markersize=4, color=BLUE, label="model")
    axis.set(yticks=places, yticklabels=table.index, xlabel="FER+ test accuracy (%)")
    of_label = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    fig.legend(of_label.values(), of_label.keys(), loc="outside upper center", ncols=1)
    return fig


TABLES: dict[str, Callable[[FerplusResults], pd.DataFrame]] = {
    "study_ferplus_heads": heads_table, "study_ferplus_comparisons": comparisons,
    "study_ferplus_recalls": recalls_table, "study_ferplus_trend": trend_table,
    "study_ferplus_classes": classes_table, "study_ferplus_quality": quality_table,
    "study_ferplus_design": design_table,
    "study_ferplus_ceiling": models_and_ceiling,
}
FIGURES: dict[str, Callable[[FerplusResults], plt.Figure]] = {
    "study_ferplus_heads": draw_heads, "study_ferplus_recalls": draw_recalls, "study_ferplus_gaps": draw_gaps,
    "study_ferplus_trend": draw_trend, "study_ferplus_search": draw_search, "study_ferplus_classes": draw_classes,
    "study_ferplus_ceiling": draw_ceiling,
}


def figures_of(results: FerplusResults) -> list[str]:
    """The figures for which there are rows; the ceiling needs none."""
    if not results.has_rows:
        return ["study_ferplus_ceiling"] if (results.folder / CEILING).is_file() else []
    table, pairs, trend, classes = results.table, comparisons(results), trend_table(results), classes_table(results)
    published = table[table["part"] == "published"]
    on_test = pairs[~pairs.index.isin(SEARCHED)] if len(pairs) else pairs
    there = {
        "study_ferplus_heads": len(published), "study_ferplus_gaps": (published["head"] == "adaface").sum(),
        "study_ferplus_recalls": len(on_test) and ((on_test["epochs"] == SHORT) & (on_test["preset"] == "nano")).sum(),
        "study_ferplus_trend": len(trend), "study_ferplus_search": len(pairs) and (pairs.index == "ingredients").sum(),
        "study_ferplus_classes": len(classes) and (classes.index == "published").sum(),
        "study_ferplus_ceiling": (results.folder / CEILING).is_file(),
    }
    return [name for name in FIGURES if there[name]]


def write_summary(results: FerplusResults) -> list[str]:
    """Tables (csv, LaTeX) and figures (PDF, PNG) of the rows that there are, into their folder; the findings."""
    if not results.has_rows and not (results.folder / CEILING).is_file():
        return [f"There are no rows in {results.folder / TABLE} yet; run the study first."]
    apply_style()
    rows = results.table if results.has_rows else pd.DataFrame({"id": [], "commit": []})
    commits = dict(sorted(zip(rows["id"], rows["commit"], strict=True)))
    source: dict[str, Any] = {"data": "FER+ (label.csv)", "runs": commits, "folder": results.folder}
    for name, make in TABLES.items():
        if (results.has_rows or make is models_and_ceiling) and len(content := make(results)):
            save_table(content, name, **source)
    for name in figures_of(results):
        fig = FIGURES[name](results)
        save_figure(fig, name, **source)
        plt.close(fig)
    return findings(results) + sentences(results) if results.has_rows else ["No runs yet: the ceiling alone."]

"""From the study's table to its answers: tables, figures and sentences. The paper reads the tables and figures.

    table = read_results(Path("results"))
    print(*findings(table), sep="\\n")
    write_summary(table, Path("results"))

Every interval and p-value of a difference is a paired t-test over seeds; `_holm` is corrected for the comparisons of
the same measure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from poster_ada.data.degrade import SEVERITIES, WORST
from poster_ada.evaluation.degraded import evenly_chosen
from poster_ada.evaluation.hierarchical import LEVEL, holm
from poster_ada.model.config import NORM_SOURCES
from poster_ada.palette import NEUTRAL_COLOUR, shade
from poster_ada.paper.ablation import paired_test, seed_interval
from poster_ada.paper.figures import HEAD_COLOURS, PAGE_WIDTH, apply_style, interval_text, save_figure, save_table
from poster_ada.paper.study_grid import CHOSEN, SEARCH

NAMES = {"mlp": "MLP", "adaface-m0.4": "AdaFace, m = 0.4", "adaface-m0.75": "AdaFace, m = 0.75",
         CHOSEN: CHOSEN, "mlp-same-recipe": "MLP, same recipe"}
# Each is compared with the one that differs from it by the head alone.
PAIRS = (("adaface-m0.4", "mlp"), ("adaface-m0.75", "mlp"), (CHOSEN, "mlp-same-recipe"))
# What is compared: column -> how the columns of its test begin, and what sentences call it.
COMPARED = {"accuracy": ("", "accuracy"), "macro_f1": ("macro_f1_", "macro F1"),
            "degraded_accuracy": ("degraded_", "accuracy on degraded faces")}
DEGRADED = [f"accuracy_{kind}_{severity}" for kind in SEVERITIES for severity in range(1, WORST + 1)]
SOURCE_NAMES = {"embedding": "after squeeze-excitation", "fused": "after last LayerNorm", "pre_norm": "before it",
                "image": "image stream"}
SOURCE_COLOURS = dict(zip(NORM_SOURCES, ("#D55E00", "#E69F00", "#0072B2", "#009E73"), strict=True))
KINDS = (*SEVERITIES, "all", "demo")
CORRELATION_OF_ADAFACE = 0.5  # about what Kim et al. 2022 report for their norm and a no-reference quality score
FACTORS = tuple(name for name in SEARCH if name != "seed")
OF_QUALITY = ("quality_weight", "norm_source")  # factors that teach the norm, or choose it
FACTOR_NAMES = {"concentration": "concentration h", "scale": "scale s", "margin": "margin m",
                "t_alpha": "weight of the batch", "norm_source": "norm source", "quality_weight": "quality weight",
                "label_smoothing": "label smoothing"}


def settings_table(table: pd.DataFrame) -> pd.DataFrame:
    """One line per setting tested on the test faces: means over seeds in percent, half widths of 95 % intervals."""
    lines = []
    for setting in NAMES:
        own = table[table["setting"] == setting]
        if len(own):
            line: dict[str, Any] = {"setting": setting, "seeds": len(own)}
            for column in ("accuracy", "label_margin_accuracy", "macro_f1", "validation_accuracy"):
                line |= {column: own[column].mean(), f"{column}_interval": seed_interval(own[column])}
            lines.append(line)
    return pd.DataFrame(lines).set_index("setting")


def faces_right(table: pd.DataFrame, setting: str) -> np.ndarray:
    """Whether each seed classifies each test face rightly, 0 or 1 (seeds, N)."""
    own = table[table["setting"] == setting]
    return np.stack([np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8), count=int(row["test_faces"]))
                     for _, row in own.iterrows()])


def comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """Paired tests over seeds of the pairs of settings that are there, in percentage points: `difference`, its 95 %
    interval, `p` and `p_holm` of accuracy; `macro_f1_` and `degraded_` before them of macro F1 and of the mean accuracy
    over every kind and severity of fault.

    `faces_low` and `faces_high` are the interval of the accuracy over test faces, each counted by the share of seeds
    that is right: what another choice of faces could have changed. `label_margin_difference` is what the report's
    protocol makes of the same models.
    """
    lines = []
    by_seed = table.assign(degraded_accuracy=table[DEGRADED].mean(axis=1)).set_index(["setting", "seed"])
    for setting, baseline in PAIRS:
        seeds_of = [set(table[table["setting"] == name]["seed"]) for name in (setting, baseline)]
        seeds = sorted(set.intersection(*seeds_of))
        if len(seeds) < 2:
            continue
        ours, theirs = by_seed.loc[setting].loc[seeds], by_seed.loc[baseline].loc[seeds]
        line: dict[str, Any] = {"setting": setting, "baseline": baseline, "seeds": len(seeds)}
        for column, (prefix, _) in COMPARED.items():
            line |= {f"{prefix}{name}": value for name, value in paired_test(ours[column] - theirs[column]).items()}
        paired = table[table["seed"].isin(seeds)]
        faces = paired_test(100 * (faces_right(paired, setting).mean(0) - faces_right(paired, baseline).mean(0)))
        lines.append(line | {
            "faces_low": faces["difference_low"], "faces_high": faces["difference_high"],
            "label_margin_difference": (ours["label_margin_accuracy"] - theirs["label_margin_accuracy"]).mean()})
    found = pd.DataFrame(lines)
    for prefix, _ in COMPARED.values() if lines else ():
        found.insert(found.columns.get_loc(f"{prefix}p") + 1, f"{prefix}p_holm", holm(found[f"{prefix}p"]))
    return found


def norms_table(table: pd.DataFrame) -> pd.DataFrame:
    """Pearson's r of norm and known quality, mean over seeds: one line per setting, norm source and kind of fault."""
    lines = []
    for setting in NAMES:
        own = table[table["setting"] == setting]
        for source in NORM_SOURCES if len(own) else ():
            for kind in KINDS:
                if f"r_{source}_{kind}" in own and (r := own[f"r_{source}_{kind}"]).notna().all():
                    lines.append({"setting": setting, "norm_source": source, "kind": kind, "r": r.mean(),
                                  "interval": seed_interval(r), "seeds": len(own)})
    return pd.DataFrame(lines)


def severity_table(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy in percent at each severity, mean over seeds, of the same faces; 0 leaves them as they are."""
    lines = []
    for setting in NAMES:
        own = table[table["setting"] == setting]
        if not len(own):
            continue
        right = faces_right(table, setting)
        clean = 100 * right[:, evenly_chosen(right.shape[1])].mean(1)
        for kind in SEVERITIES:
            for severity in range(WORST + 1):
                values = own[f"accuracy_{kind}_{severity}"] if severity else clean
                lines.append({"setting": setting, "kind": kind, "severity": severity, "accuracy": values.mean(),
                              "interval": seed_interval(values)})
    return pd.DataFrame(lines)


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """The search's factors: mean validation accuracy (percent) of each level over the runs that have it.

    The others are balanced over these runs. Accuracies are taken relative to the mean of their seed, since each seed
    has its own validation faces. `r` is the mean correlation of the norm that drove the margin with quality.
    """
    search = table[table["stage"] == "search"].copy()
    accuracy = search["validation_accuracy"]
    search["adjusted"] = accuracy - accuracy.groupby(search["seed"]).transform("mean") + accuracy.mean()
    search["r"] = [row[f"r_{row['norm_source']}_all"] for _, row in search.iterrows()]
    lines = []
    for factor in FACTORS:
        for level in SEARCH[factor]:
            own = search[search[factor] == level]
            lines.append({"factor": factor, "level": level, "runs": len(own), "accuracy": own["adjusted"].mean(),
                          "standard_error": own["adjusted"].std() / np.sqrt(len(own)), "r": own["r"].mean()})
    return pd.DataFrame(lines)


def choose(table: pd.DataFrame) -> dict[str, Any]:
    """The setting that the search points to, by validation faces alone.

    Each factor takes its most accurate level. Of the levels of quality weight and norm source that are within a
    standard error of the best, the one whose norm knows quality best is taken.
    """
    found, chosen = effects(table), {}
    for factor in FACTORS:
        levels = found[found["factor"] == factor]
        best = levels.loc[levels["accuracy"].idxmax()]
        if factor in OF_QUALITY:
            near = levels[levels["accuracy"] >= best["accuracy"] - best["standard_error"]]
            best = near.loc[near["r"].idxmax()]
        chosen[factor] = best["level"]
    return chosen


def findings(table: pd.DataFrame) -> list[str]:
    """The answers in plain sentences, every number from the table."""
    sentences = []
    for _, pair in comparisons(table).iterrows():
        told = [f"{words} {_difference(pair, prefix)}: {_verdict(pair, prefix)}" for prefix, words in COMPARED.values()]
        sentences.append(
            f"{NAMES[pair['setting']]} less {NAMES[pair['baseline']]}, {pair['seeds']} seeds: {'; '.join(told)}. By "
            f"the report's label-margin protocol {pair['label_margin_difference']:+.1f} points.")
    norms = norms_table(table)
    for setting in ("adaface-m0.4", CHOSEN):
        own = norms[(norms["setting"] == setting)]
        if len(own):
            pooled = own[own["kind"] == "all"].set_index("norm_source")
            read = table.loc[table["setting"] == setting, "norm_source"].iloc[0]
            sentences.append(
                f"Norm and known quality over all faults, {NAMES[setting]}: "
                + ", ".join(f"{SOURCE_NAMES[source]}{' (the one it reads)' if source == read else ''} "
                            f"r = {_correlation(*row)}" for source, row in pooled[["r", "interval"]].iterrows())
                + f". AdaFace reports about {CORRELATION_OF_ADAFACE}.")
    if (table["stage"] == "search").any():
        found = effects(table)
        sentences += [
            f"Search, {FACTOR_NAMES[factor]}: "
            + ", ".join(f"{interval_text(row['accuracy'], row['standard_error'])} % at {_level(row['level'])}"
                        for _, row in found[found["factor"] == factor].iterrows())
            + " (validation, standard errors)."
            for factor in FACTORS]
    return sentences


def _correlation(mean: float, half_width: float) -> str:
    """`0.12 +- 0.03`."""
    return f"{mean:+.2f}" + ("" if np.isnan(half_width) else f" \N{PLUS-MINUS SIGN} {half_width:.2f}")


def _difference(pair: Any, prefix: str) -> str:
    low, high, p = (pair[f"{prefix}{name}"] for name in ("difference_low", "difference_high", "p_holm"))
    return f"{pair[f'{prefix}difference']:+.1f} points ({low:+.1f} to {high:+.1f}; p {p:.2g} over seeds, Holm)"


def _verdict(pair: Any, prefix: str) -> str:
    low, high, p = (pair[f"{prefix}{name}"] for name in ("difference_low", "difference_high", "p_holm"))
    return "no difference shown" if p >= LEVEL or low <= 0 <= high else "worse" if high < 0 else "better"


def _level(value: Any) -> str:
    return value.replace("_", "-") if isinstance(value, str) else f"{value:g}"


def draw_protocol(table: pd.DataFrame) -> plt.Figure:
    """What either protocol counts as right, for every setting; small dots are seeds."""
    settings = settings_table(table)
    fig, axis = plt.subplots(figsize=(PAGE_WIDTH / 2, 0.9 + 0.28 * len(settings)))
    places = np.arange(len(settings))[::-1]
    for column, label, colour, shift in (("accuracy", "margin-free", HEAD_COLOURS["mlp"], 0.12),
                                         ("label_margin_accuracy", "label-margin", HEAD_COLOURS["adaface"], -0.12)):
        for place, setting in zip(places, settings.index, strict=True):
            seeds = table.loc[table["setting"] == setting, column]
            axis.plot(seeds, [place + shift] * len(seeds), "o", markersize=2.5, color=shade(colour, 0.55), zorder=1)
        axis.errorbar(settings[column], places + shift, xerr=settings[f"{column}_interval"].fillna(0), fmt="o",
                      markersize=4, elinewidth=0.9, color=colour, label=label)
    axis.set(yticks=places, yticklabels=[NAMES[name] for name in settings.index], xlabel="counted as right (%)")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return fig


def draw_norms(table: pd.DataFrame) -> plt.Figure:
    """Correlation of each norm with known quality, by kind of fault."""
    norms = norms_table(table)
    shown = [name for name in ("adaface-m0.4", CHOSEN) if name in set(norms["setting"])]
    fig, axes = plt.subplots(1, len(shown), figsize=(PAGE_WIDTH, 2.4), sharey=True, squeeze=False)
    for axis, setting in zip(axes[0], shown, strict=True):
        own = norms[norms["setting"] == setting]
        kinds = [kind for kind in KINDS if kind in set(own["kind"])]
        for number, source in enumerate(NORM_SOURCES):
            values = own[own["norm_source"] == source].set_index("kind").loc[kinds]
            axis.bar(np.arange(len(kinds)) + 0.2 * (number - 1.5), values["r"], 0.19, yerr=values["interval"],
                     error_kw={"elinewidth": 0.7}, color=SOURCE_COLOURS[source], label=SOURCE_NAMES[source])
        axis.axhline(0, color="black", linewidth=0.6)
        axis.axhline(CORRELATION_OF_ADAFACE, color=NEUTRAL_COLOUR, linewidth=0.8, linestyle="--")
        axis.set(title=NAMES[setting], xticks=range(len(kinds)), xticklabels=kinds, ylim=(-1, 1))
        axis.tick_params(axis="x", rotation=30)
    axes[0, 0].set_ylabel("Pearson's r, norm and quality")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def draw_severity(table: pd.DataFrame) -> plt.Figure:
    """Test accuracy against severity, one panel per kind of fault."""
    severities = severity_table(table)
    styles = {"mlp": ("mlp", "--", 0.5), "adaface-m0.4": ("adaface", "--", 0.5), "mlp-same-recipe": ("mlp", "-", 0.0),
              CHOSEN: ("adaface", "-", 0.0)}
    fig, axes = plt.subplots(1, len(SEVERITIES), figsize=(PAGE_WIDTH, 1.9), sharey=True)
    for axis, kind in zip(axes, SEVERITIES, strict=True):
        for setting, (head, line, pale) in styles.items():
            own = severities[(severities["setting"] == setting) & (severities["kind"] == kind)]
            if len(own):
                colour = shade(HEAD_COLOURS[head], pale)
                axis.plot(own["severity"], own["accuracy"], line, color=colour, label=NAMES[setting])
                if not pale:
                    axis.fill_between(own["severity"], own["accuracy"] - own["interval"],
                                      own["accuracy"] + own["interval"], color=colour, alpha=0.2, linewidth=0)
        axis.set(title=kind, xticks=range(6), xlabel="severity")
    axes[0].set_ylabel("test accuracy (%)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def draw_search(table: pd.DataFrame) -> plt.Figure:
    """Mean validation accuracy of each factor's levels, and the correlation of the norm that drove the margin."""
    found, chosen = effects(table), choose(table)
    fig, axes = plt.subplots(2, len(FACTORS), figsize=(PAGE_WIDTH, 2.8), sharey="row", sharex="col")
    for column, factor in enumerate(FACTORS):
        levels = found[found["factor"] == factor]
        places = np.arange(len(levels))
        taken = [HEAD_COLOURS["adaface"] if level == chosen[factor] else NEUTRAL_COLOUR for level in levels["level"]]
        axes[0, column].errorbar(places, levels["accuracy"], levels["standard_error"], fmt="none",
                                 ecolor=NEUTRAL_COLOUR, elinewidth=0.8)
        for row, values in enumerate((levels["accuracy"], levels["r"])):
            axes[row, column].plot(places, values, color="#BBBBBB", linewidth=0.8, zorder=0)
            axes[row, column].scatter(places, values, c=taken, s=16, zorder=2)
        axes[0, column].set_title(FACTOR_NAMES[factor], fontsize=7)
        axes[1, column].axhline(0, color="black", linewidth=0.5)
        axes[1, column].set(xticks=places, xticklabels=[_level(level) for level in levels["level"]])
        axes[1, column].tick_params(axis="x", rotation=30 if isinstance(levels["level"].iloc[0], str) else 0)
        axes[1, column].margins(x=0.25)
    axes[0, 0].set_ylabel("validation accuracy (%)")
    axes[1, 0].set_ylabel("r of its norm")
    return fig


FIGURES = {"study_protocol": draw_protocol, "study_norms": draw_norms, "study_severity": draw_severity,
           "study_search": draw_search}


def write_summary(table: pd.DataFrame, folder: Path) -> None:
    """Tables and figures (PDF and PNG) into `folder`, as far as the runs go."""
    apply_style()
    data = table["data"].iloc[0]
    written = {"data": data, "folder": folder}
    made_by = table.get("commit", pd.Series(pd.NA, table.index)).astype(object).fillna("unknown, before version 0.2")
    commits = dict(sorted(zip(table["id"], made_by, strict=True)))
    tested = table[table["stage"] != "search"]
    exports = {"study_summary": settings_table(tested), "study_comparisons": comparisons(tested).set_index("setting"),
               "study_norms": norms_table(tested).set_index("setting"),
               "study_severity": severity_table(tested).set_index("setting")}
    searched = (table["stage"] == "search").sum() == len(table[table["stage"] == "search"]["setting"].unique()) > 0
    if searched:
        exports["study_search"] = effects(table).set_index("factor")
    for name, content in exports.items():
        save_table(content, name, runs=commits, **written)
    for name, draw in FIGURES.items():
        if name == "study_search" and not searched:
            continue
        fig = draw(table)
        save_figure(fig, name, runs=commits, **written)
        plt.close(fig)

"""From the study's table to its answers: tables, figures, sentences and the paper's section on real faces.

    table = read_results(Path("results"))
    print(*findings(table), sep="\\n")
    write_summary(table, Path("results"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from poster_ada.data.degrade import SEVERITIES, WORST
from poster_ada.evaluation.degraded import evenly_chosen
from poster_ada.files import write_text_atomically
from poster_ada.model.config import NORM_SOURCES
from poster_ada.palette import NEUTRAL_COLOUR, shade
from poster_ada.paper.ablation import paired_test, seed_interval
from poster_ada.paper.figures import HEAD_COLOURS, PAGE_WIDTH, apply_style, interval_text, save_figure, save_table
from poster_ada.paper.study_grid import CHOSEN, SEARCH

NAMES = {"mlp": "MLP", "adaface-m0.4": "AdaFace, m = 0.4", "adaface-m0.75": "AdaFace, m = 0.75",
         CHOSEN: CHOSEN, "mlp-same-recipe": "MLP, same recipe"}
# Each is compared with the one that differs from it by the head alone; the chosen setting with the published MLP too.
PAIRS = (("adaface-m0.4", "mlp"), ("adaface-m0.75", "mlp"), (CHOSEN, "mlp-same-recipe"), (CHOSEN, "mlp"),
         (CHOSEN, "adaface-m0.4"))
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
    """Paired tests of the pairs of settings that are there, in percentage points.

    `difference`, its interval and `p` pair the seeds, and so cover training; `faces_low`, `faces_high`, `faces_p` pair
    the test faces, each counted by the share of seeds that is right, and so cover the choice of faces.
    `label_margin_difference` is what the report's protocol makes of the same models.
    """
    lines, by_seed = [], table.set_index(["setting", "seed"])
    for setting, baseline in PAIRS:
        seeds_of = [set(table[table["setting"] == name]["seed"]) for name in (setting, baseline)]
        seeds = sorted(set.intersection(*seeds_of))
        if len(seeds) < 2:
            continue
        ours, theirs = by_seed.loc[setting].loc[seeds], by_seed.loc[baseline].loc[seeds]
        paired = table[table["seed"].isin(seeds)]
        faces = paired_test(100 * (faces_right(paired, setting).mean(0) - faces_right(paired, baseline).mean(0)))
        lines.append({
            "setting": setting, "baseline": baseline, "seeds": len(seeds),
            **paired_test(ours["accuracy"] - theirs["accuracy"]),
            **{f"faces_{name}": faces[key] for name, key in
               (("low", "difference_low"), ("high", "difference_high"), ("p", "p"))},
            "label_margin_difference": (ours["label_margin_accuracy"] - theirs["label_margin_accuracy"]).mean(),
        })
    return pd.DataFrame(lines)


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


def robustness(table: pd.DataFrame, setting: str, baseline: str) -> dict[str, float]:
    """Paired test over seeds of the mean accuracy over every kind and severity above 0, in points."""
    columns = [f"accuracy_{kind}_{severity}" for kind in SEVERITIES for severity in range(1, WORST + 1)]
    means = table.set_index(["setting", "seed"])[columns].mean(axis=1)
    return paired_test((means.loc[setting] - means.loc[baseline]).dropna())


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
    settings, pairs = settings_table(table), comparisons(table).set_index(["setting", "baseline"])
    sentences = []
    for setting in ("adaface-m0.4", "adaface-m0.75"):
        if (setting, "mlp") in pairs.index:
            pair = pairs.loc[setting, "mlp"]
            sentences.append(
                f"{NAMES[setting]}, published: {pair['label_margin_difference']:+.1f} points against MLP by the "
                f"report's label-margin protocol, {_difference(pair)} margin-free: {_verdict(pair)}."
                + (f" {100 * (1 - pair['difference'] / pair['label_margin_difference']):.0f} % of the label-margin gap "
                   "is the protocol's." if pair["label_margin_difference"] < pair["difference"] <= 0 else ""))
    for setting, baseline in ((CHOSEN, "mlp-same-recipe"), (CHOSEN, "mlp"), (CHOSEN, "adaface-m0.4")):
        if (setting, baseline) in pairs.index:
            pair = pairs.loc[setting, baseline]
            sentences.append(
                f"{CHOSEN} reaches {_with_interval(settings, setting)} %, {NAMES[baseline]} "
                f"{_with_interval(settings, baseline)} %: {_difference(pair)}; over the test faces "
                f"{pair['faces_low']:+.1f} to {pair['faces_high']:+.1f} (p = {pair['faces_p']:.2g}): {_verdict(pair)}.")
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
            single = own[own["kind"] != "all"]
            top = single.loc[single["r"].idxmax()]
            sentences.append(f"Its best single case is {top['kind']}, {SOURCE_NAMES[top['norm_source']]}: "
                             f"r = {_correlation(top['r'], top['interval'])}.")
    for setting, baseline in PAIRS[:1] + PAIRS[2:4]:
        if (setting, baseline) in pairs.index:
            pair = robustness(table, setting, baseline)
            sentences.append(f"On degraded faces (mean of every kind and severity) {NAMES[setting]} is "
                             f"{_difference(pair)} against {NAMES[baseline]}: {_verdict(pair)}.")
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


def _difference(pair: Any) -> str:
    return (f"{pair['difference']:+.1f} points (95 % interval over seeds {pair['difference_low']:+.1f} to "
            f"{pair['difference_high']:+.1f}, p = {pair['p']:.2g})")


def _verdict(pair: Any) -> str:
    return "worse" if pair["difference_high"] < 0 else "better" if pair["difference_low"] > 0 else "no difference shown"


def _with_interval(settings: pd.DataFrame, setting: str) -> str:
    return interval_text(settings.loc[setting, "accuracy"], settings.loc[setting, "accuracy_interval"])


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


FIGURES = {
    "study_protocol": (draw_protocol, "Real faces: what either protocol counts as right. Large dots: mean over seeds "
                       "with 95 % interval; small dots: seeds."),
    "study_norms": (draw_norms, "Real faces: correlation of four norms with known quality, by fault, over all faults, "
                    "and on the demo faces. Dashed: about what AdaFace reports."),
    "study_severity": (draw_severity, "Real faces: test accuracy against the severity of a fault. Bands: 95 % "
                       "intervals over seeds; dashed: the published recipe."),
    "study_search": (draw_search, "The search, on validation faces alone: means over the runs at each level (bars: "
                     "standard errors), and how well the norm that drove the margin knew quality. Red: chosen."),
}


def write_summary(table: pd.DataFrame, folder: Path) -> None:
    """Tables, figures (PDF and PNG) and `study.typ`, the paper's section, into `folder`, as far as the runs go."""
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
    drawn = {name: value for name, value in FIGURES.items() if searched or name != "study_search"}
    for name, (draw, _) in drawn.items():
        fig = draw(table)
        save_figure(fig, name, runs=commits, **written)
        plt.close(fig)
    section = paper_section(table, list(drawn))
    write_text_atomically(folder / "study.typ", section)


def paper_section(table: pd.DataFrame, figures: list[str]) -> str:
    """The Typst section: what was run, the findings, and the figures."""
    first = table[table["stage"] != "search"].iloc[0]
    given = "" if first["pretrained"] == "none" else f"; ready-made were only {first['pretrained']}"
    parts = [
        f"Not RAF-DB: {first['train_faces'] + first['validation_faces']} training and {first['test_faces']:.0f} test "
        f"photographs ({first['data']}). {len(table)} runs of "
        f"the {first['preset']} model, {first['epochs']} epochs from random weights{given}. The numbers compare heads; "
        "they are not to be compared with published accuracies.",
        *(f"- {sentence}" for sentence in findings(table)),
        *(_figure(name) for name in figures),
    ]
    wide = "#let wide(body) = place(auto, scope: \"parent\", float: true, body)"
    return "\n\n".join([wide, *parts]) + "\n"


def _figure(name: str) -> str:
    text = f'#figure(image("{name}.pdf", width: 100%), caption: [{FIGURES[name][1]}])'
    return text if name == "study_protocol" else f"#wide[{text}]"

"""From the FER+ study's rows to its answers: tables, figures and sentences, of whatever rows there are.

    results = FerplusResults(Path("results"))
    heads_table(results), comparisons(results), trend_table(results), recalls_table(results)
    write_summary(results)

Intervals of differences cover seeds and faces (evaluation/hierarchical.py). Every p-value is a paired t-test over
seeds; `_holm` is corrected for all settings of the same part that are compared with the same baseline. The search has
too few seeds of each setting for that: what seeds change is estimated from all runs of its length together (`Spread`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from poster_ada.data.degrade import SEVERITIES, WORST
from poster_ada.evaluation.hierarchical import LEVEL, Spread, faces_alone, holm, paired_interval, recall
from poster_ada.model.config import PosterConfig
from poster_ada.paper.ablation import paired_test, seed_interval
from poster_ada.paper.ferplus_choice import MARGINS, MEASURES
from poster_ada.paper.ferplus_grid import (
    FACTORS,
    PARTS,
    SEARCHED,
    SHORT,
    FerplusRow,
    baseline_of,
    design,
    grid,
    read_choice,
)
from poster_ada.paper.ferplus_results import CLASS_NAMES, KEY, FerplusResults

MEANS = (
    "accuracy", "macro_f1", "accuracy_without_twins", "macro_f1_without_twins", "label_margin_accuracy",
    "label_margin_macro_f1", "ece", "ece_calibrated", *(f"recall_{name.lower()}" for name in CLASS_NAMES),
    "validation_accuracy", "validation_macro_f1", "gap_above_0", "gap_above_0.4", "gap_above_0.5", "gap_above_0.6",
    "median_gap", "train_accuracy", "norm_class_share", "r_norm_agreement", "r_norm_agreement_within",
    "degraded_accuracy",
)
H = PosterConfig().concentration
DEGRADED = [f"accuracy_{kind}_{severity}" for kind in SEVERITIES for severity in range(1, WORST + 1)]
ARTEFACT = "accuracy less label-margin accuracy"
TRENDS = {"accuracy": "accuracy less MLP's", "macro_f1": "macro F1 less MLP's", "artefact": ARTEFACT}


def with_means(results: FerplusResults) -> pd.DataFrame:
    """The rows, with `degraded_accuracy`: the mean over every kind and severity of fault."""
    table = results.table.copy()  # in one piece: columns are added to it
    known = [name for name in DEGRADED if name in table]
    return table.assign(degraded_accuracy=table[known].mean(axis=1) if known else np.nan)


def settings_in(results: FerplusResults) -> list[FerplusRow]:
    """One row of the grid for each part, setting, length and size that has a finished run, in the grid's order."""
    there = set(results.table["id"])
    rows = [row for row in grid(read_choice(results.folder)) if row.id in there]
    first: dict[tuple[str, str, int, str], FerplusRow] = {}
    for row in rows:
        first.setdefault(row.key, row)
    return list(first.values())


def coverage(results: FerplusResults) -> pd.DataFrame:
    """Runs of the grid and finished ones, by part."""
    there = set(results.table["id"])
    rows = grid(read_choice(results.folder))
    lines = [{"part": part, "runs": len(own := [row for row in rows if row.part == part]),
              "done": sum(row.id in there for row in own)} for part in PARTS]
    return pd.DataFrame(lines).set_index("part")


def heads_table(results: FerplusResults) -> pd.DataFrame:
    """One line per setting: means over seeds, in percent, and half widths of their 95 % intervals over seeds."""
    table, lines = with_means(results), []
    for row in settings_in(results):
        own = table[(table[KEY] == list(row.key)).all(axis=1)]
        line: dict[str, Any] = dict(zip(KEY, row.key, strict=True)) | {"seeds": len(own)}
        for name in (name for name in MEANS if name in own):
            line |= {name: own[name].mean(), f"{name}_interval": seed_interval(own[name])}
        lines.append(line)
    return pd.DataFrame(lines).set_index("part")


def comparisons(results: FerplusResults) -> pd.DataFrame:
    """Each setting less its baseline, in points, paired over the seeds that both have: accuracy, macro F1, and accuracy
    on degraded faces; the search's on validation faces, all else on test faces.

    `non_inferior`: whether the one-sided 95 % intervals lie above -1 point of accuracy and -1.5 of macro F1;
    `_faces_alone`: what of such an interval would be left however many seeds there were.
    """
    lines, of_runs = [], with_means(results).set_index("id")
    means = of_runs["degraded_accuracy"]
    for row, baseline, ours, theirs in _pairs(results):
        searched = row.part in SEARCHED
        line: dict[str, Any] = dict(zip(KEY, row.key, strict=True)) | {
            "baseline": " ".join(part for part in baseline if part != row.part),
            "faces": "validation" if searched else "test", "seeds": len(ours)}
        counts = results.confusions(ours), results.confusions(theirs)
        for name, measure in MEASURES.items():
            column = f"validation_{name}" if searched else name
            found = paired_interval(measure, *counts) | {"p_seeds": _p(ours[column] - theirs[column])}
            if searched:
                over_faces = (measure(counts[0]) - measure(counts[1]))[:, 1:].mean(0).std()
                wider = spread_of(results, row, of_runs[column]).interval(found["difference"], len(ours), over_faces)
                found |= wider | {"p_seeds": wider.pop("p")}
            found["faces_alone"] = faces_alone(measure, *counts)
            line |= {f"{name}_{key}": value for key, value in found.items()}
        line["non_inferior"] = all(line[f"{name}_one_sided_low"] > -margin for name, margin in MARGINS.items())
        degraded = means[ours["id"]].to_numpy() - means[theirs["id"]].to_numpy()
        found = {"difference": degraded.mean(), "interval": seed_interval(degraded), "p_seeds": _p(degraded)}
        if searched:
            wider = spread_of(results, row, means).interval(degraded.mean(), len(ours))
            found |= {"interval": wider["high"] - degraded.mean(), "p_seeds": wider["p"]}
        lines.append(line | {f"degraded_{key}": value for key, value in found.items()})
    table = pd.DataFrame(lines)
    if not len(table):
        return table
    for name in (*MEASURES, "degraded"):
        table.insert(table.columns.get_loc(f"{name}_p_seeds") + 1, f"{name}_p_seeds_holm",
                     table.groupby(["part", "baseline"])[f"{name}_p_seeds"].transform(holm))
    return table.set_index("part")


def spread_of(results: FerplusResults, row: FerplusRow, values: pd.Series) -> Spread:
    """What seeds change in `values` (by run), from all runs of the row's length and size together."""
    table = results.table
    same = table[(table["epochs"] == row.epochs) & (table["preset"] == row.preset)]
    runs = pd.MultiIndex.from_arrays([same["part"] + " " + same["setting"], same["seed"]])
    return Spread.of(values.loc[same["id"]].set_axis(runs).dropna())


def design_table(results: FerplusResults) -> pd.DataFrame:
    """Main effects of the balanced design on validation faces, in points: accuracy and macro F1 at a factor's second
    level less its first (`FACTORS`), over seeds that have all eight combinations, with intervals and p-values over
    seeds by `spread_of`; `_holm` is corrected for the factors."""
    runs = {name: results.of((*name, SHORT, "nano")) for name in design()}
    seeds = set.intersection(*(set(own.index) for own in runs.values()))
    lines = []
    for factor, (first, second) in FACTORS.items() if seeds else ():
        line: dict[str, Any] = {"factor": factor, "from": first, "to": second, "seeds": len(seeds)}
        for name in MEASURES:
            means = {level: np.mean([runs[key].loc[sorted(seeds), f"validation_{name}"].mean()
                                     for key, levels in design().items() if levels[factor] == level])
                     for level in (first, second)}
            difference = float(means[second] - means[first])
            values = results.table.set_index("id")[f"validation_{name}"]
            spread = spread_of(results, FerplusRow("design", "", 0), values)
            found = spread.interval(difference, len(seeds) * len(runs) // 2)
            line |= {f"{name}_difference": difference, **{f"{name}_{key}": found[key] for key in ("low", "high")},
                     f"{name}_p_seeds": found["p"]}
        lines.append(line)
    table = pd.DataFrame(lines)
    for name in MEASURES if lines else ():
        table[f"{name}_p_seeds_holm"] = holm(table[f"{name}_p_seeds"])
    return table.set_index("factor") if lines else table


def recalls_table(results: FerplusResults) -> pd.DataFrame:
    """Recall of each class less its baseline's, in points, with the interval over seeds and faces; of AdaFace also `q`:
    what its norm makes of the class's test faces, mean over these and seeds."""
    lines = []
    for row, baseline, ours, theirs in _pairs(results):
        counts = results.confusions(ours), results.confusions(theirs)
        q = quality_of_classes(results, row, ours)
        for label, name in enumerate(CLASS_NAMES):
            found = paired_interval(recall(label), *counts) | {"q": q[label]}
            lines.append(dict(zip(KEY, row.key, strict=True)) | {
                "baseline": " ".join(part for part in baseline if part != row.part), "seeds": len(ours), "class": name,
                "class_faces": int(counts[0][0, 0, label].sum()), **found})
    return pd.DataFrame(lines).set_index("part") if lines else pd.DataFrame()


def quality_of_classes(results: FerplusResults, row: FerplusRow, runs: pd.DataFrame) -> np.ndarray:
    """Mean q of each class's test faces (C,), over runs too, in [-1, 1]: h times the norm in standard deviations from
    the mean of all test faces, where training takes those of a batch (Kim et al. 2022). NaN for heads without q."""
    labels = results.faces["label"]
    means = np.full((len(runs), len(CLASS_NAMES)), np.nan)
    for number, run in enumerate(map(results.predictions, runs["id"]) if row.choices["head"] == "adaface" else ()):
        norm = run["norm"].astype(float)
        q = (row.choices.get("concentration", H) * (norm - norm.mean()) / norm.std()).clip(-1, 1)
        means[number] = [q[labels == label].mean() for label in range(len(CLASS_NAMES))]
    return means.mean(0)


def trend_table(results: FerplusResults) -> pd.DataFrame:
    """How a margin head's deficit and the protocol's artefact move with the length of training, in points.

    `at_<epochs>` are means over seeds, `interval_<epochs>` half widths of their 95 % intervals; `slope` is the change
    per doubling of the length, fitted within each of the `seeds` that have two lengths or more, with its 95 % interval
    and p-value over them.
    """
    table = results.table[results.table["part"] == "published"].copy()
    table["artefact"] = table["accuracy"] - table["label_margin_accuracy"]
    by_run = table.set_index(["setting", "epochs", "seed"])
    lines = []
    for setting in dict.fromkeys(table["setting"]):
        if setting == "mlp" or table.loc[table["setting"] == setting, "epochs"].nunique() < 2:
            continue
        for measure, name in TRENDS.items():
            wide = by_run.loc[setting][measure].unstack("epochs")
            if measure != "artefact":
                if "mlp" not in by_run.index:
                    continue
                wide = wide - by_run.loc["mlp"][measure].unstack("epochs")
            wide = wide.dropna(axis=1, how="all")
            known = [own for _, own in wide.iterrows() if own.notna().sum() > 1]
            slopes = np.array([_slope_of(own.dropna()) for own in known])
            test = _slope(slopes)
            lines.append({"setting": setting, "measure": name, "seeds": len(known),
                          **{f"at_{epochs}": wide[epochs].mean() for epochs in wide},
                          **{f"interval_{epochs}": seed_interval(wide[epochs].dropna()) for epochs in wide}, **test})
    found = pd.DataFrame(lines)
    if len(found):
        found["p_seeds_holm"] = holm(found["p_seeds"])
        found = found.set_index("setting")
    return found


def findings(results: FerplusResults) -> list[str]:
    """The answers in plain sentences, every number from the rows; what is partial says so."""
    done = coverage(results)
    sentences = [f"{part}: {line['done']} of {line['runs']} runs." for part, line in done.iterrows() if line["runs"]]
    pairs = comparisons(results)
    for part, pair in pairs.iterrows():
        if np.isnan(pair["accuracy_low"]):
            continue
        told = [f"{words} {pair[f'{name}_difference']:+.1f} ({pair[f'{name}_low']:+.1f} to "
                f"{pair[f'{name}_high']:+.1f}; p {pair[f'{name}_p_seeds_holm']:.2g} over seeds, Holm)"
                for name, words in (("accuracy", "accuracy"), ("macro_f1", "macro F1"))]
        sentences.append(
            f"{part}, {pair['setting']} against {pair['baseline']}, {pair['preset']}, {pair['epochs']} epochs, "
            f"seeds: {pair['seeds']}, {pair['faces']} faces: {', '.join(told)}: {verdict(pair)}.")
    for setting, line in trend_table(results).iterrows():
        if line["seeds"] > 1:
            sentences.append(f"{setting}, {line['measure']}: {line['slope']:+.1f} points per doubling of training ("
                             f"{line['low']:+.1f} to {line['high']:+.1f}; p {line['p_seeds_holm']:.2g} over seeds, "
                             "Holm).")
    return sentences


def direction(pair: Any, measure: str) -> str:
    """`lower` or `higher` if the 95 % interval does not hold 0 and p over seeds, corrected where it is one of several,
    is below 0.05; else empty."""
    if pair.get(f"{measure}_p_seeds_holm", pair[f"{measure}_p_seeds"]) >= LEVEL:
        return ""
    return "lower" if pair[f"{measure}_high"] < 0 else "higher" if pair[f"{measure}_low"] > 0 else ""


def verdict(pair: Any) -> str:
    """What a comparison shows, in words; nothing is called equal that was not tested for it."""
    found = {kind: [name for name in MEASURES if direction(pair, name) == kind] for kind in ("lower", "higher")}
    words = [f"{kind} {' and '.join(name.replace('macro_f1', 'macro F1') for name in names)}"
             for kind, names in found.items() if names]
    words.append("non-inferior" if pair["non_inferior"] else "non-inferiority not shown")
    return ", ".join(words)


def _pairs(results: FerplusResults) -> Iterator[tuple[FerplusRow, tuple[str, str], pd.DataFrame, pd.DataFrame]]:
    """Each setting with its baselines, and the rows of both with the same seeds, in the same order.

    Baselines are MLP; of an ingredient the published AdaFace too; with a camera's faults, MLP with them.
    """
    settings = settings_in(results)
    for row in settings:
        baselines = [baseline_of(row)]
        if row.part == "ingredients":
            baselines.append(("ingredients", "published"))
        if row.setting.startswith("camera-"):
            baselines.append(("quality", "camera-mlp"))
        if row.part == "confirm":
            baselines.append(("confirm", "mlp-same-recipe"))
        for baseline in baselines:
            if baseline == (row.part, row.setting):
                continue
            ours, theirs = results.of(row.key), results.of((*baseline, row.epochs, row.preset))
            seeds = ours.index.intersection(theirs.index)
            if len(seeds):
                yield row, baseline, ours.loc[seeds], theirs.loc[seeds]


def _p(differences: Any) -> float:
    """Of a paired t-test over seeds; NaN where there are fewer than two, or where all are the same."""
    values = np.asarray(differences, float)
    return float("nan") if len(values) < 2 or np.ptp(values) == 0 else paired_test(values.tolist())["p"]


def _slope_of(values: pd.Series) -> float:
    """Change per doubling of the index, by least squares."""
    return float(np.polyfit(np.log2(values.index.to_numpy(float)), values, 1)[0])


def _slope(slopes: np.ndarray) -> dict[str, float]:
    if len(slopes) < 2 or np.ptp(slopes) == 0:
        return {"slope": float(slopes.mean()) if len(slopes) else float("nan")} | dict.fromkeys(
            ("low", "high", "p_seeds"), float("nan"))
    test = paired_test(slopes.tolist())
    return {"slope": test["difference"], "low": test["difference_low"], "high": test["difference_high"],
            "p_seeds": test["p"]}

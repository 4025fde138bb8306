"""The idea given its best chance: AdaFace with q from what is known of a face, beside AdaFace with q from its norm.

FER+ knows how far ten voters agree, and a camera's faults that are put on faces are of known severity: no norm can tell
more of a face's quality. What such a q changes for rare classes, for faces on which voters disagree and for degraded
faces bounds what any quality-adaptive margin can.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from poster_ada.evaluation.hierarchical import holm
from poster_ada.paper.ferplus_grid import QUALITY_SCALE, FerplusRow
from poster_ada.paper.ferplus_results import AGREEMENT, KEY, FerplusResults
from poster_ada.paper.ferplus_summary import settings_in, spread_of, with_means

RARE = ("sadness", "anger", "fear", "disgust")
UNSURE = 6  # of ten voters: no more of them chose the label
SOURCES = {"norm": "norm", "votes": "votes", "degradation": "known degradation", "shuffled": "another face's norm"}
CONSTANT = {"cosface": "0", "arcface": "-1"}
REFERENCES = ("ingredients", "published"), ("ingredients", "scale-8"), ("quality", "camera-norm")
OF_INGREDIENTS = ("published", "q-constant-0", "q-constant-minus-1", "q-shuffled", "scale-8", "mlp")


def source_of(row: FerplusRow) -> str:
    """Where a row's q comes from, in words; empty for MLP, which has none."""
    head = row.choices["head"]
    if head != "adaface":
        return CONSTANT.get(head, "")
    source = SOURCES[row.choices.get("quality_from", "norm")]
    if row.choices.get("quality_weight"):
        source += ", taught"
    return source + (", h 1" if row.choices.get("concentration") == 1.0 else "")


def reference_of(row: FerplusRow) -> tuple[str, str]:
    """Part and setting of AdaFace with q from its norm, at the row's scale (MLP: the part's) and augmentation."""
    published, scaled, camera = REFERENCES
    if row.choices.get("augmentation") == "camera":
        return camera
    return scaled if row.choices.get("scale", QUALITY_SCALE) == QUALITY_SCALE else published


def measures_of(results: FerplusResults) -> pd.DataFrame:
    """By run: `accuracy`, `macro_f1`, `rare` (mean recall of RARE) and `unsure` (accuracy where at most UNSURE voters
    chose the label) of validation faces, `degraded` (mean accuracy over a camera's faults, 600 test faces); percent."""
    table = with_means(results).set_index("id")
    doubt = results.faces[AGREEMENT] <= UNSURE
    labels = results.faces["validation_label"][doubt]
    unsure = [100 * float((results.predictions(run)["validation_prediction"][doubt] == labels).mean())
              for run in table.index]
    return pd.DataFrame({
        "accuracy": table["validation_accuracy"], "macro_f1": table["validation_macro_f1"],
        "rare": table[[f"validation_recall_{name}" for name in RARE]].mean(axis=1), "unsure": unsure,
        "degraded": table["degraded_accuracy"],
    }, table.index)


def quality_table(results: FerplusResults) -> pd.DataFrame:
    """One line per setting of `quality`, and those of `ingredients` that are about q: means over seeds in percent of
    `measures_of`, and each less that of AdaFace with q from its norm (`reference_of`), in points, with 95 %
    intervals and p-values over seeds (`Spread` of all runs of that length, corrected after Holm by measure).

    `r_agreement`: correlation of the norm with the voters' agreement within a class, `r_degradation`: with the severity
    of a camera's faults; both on test faces, means over seeds.
    """
    rows = [row for row in settings_in(results)
            if row.part == "quality" or row.part == "ingredients" and row.setting in OF_INGREDIENTS]
    if not any(row.part == "quality" for row in rows) or AGREEMENT not in results.faces:
        return pd.DataFrame()
    rows.sort(key=lambda row: (REFERENCES.index(reference_of(row)), (row.part, row.setting) != reference_of(row)))
    values, lines = measures_of(results), []
    for row in rows:
        ours = results.of(row.key)
        baseline = reference_of(row)
        theirs = results.of((*baseline, row.epochs, row.preset))
        line: dict[str, Any] = dict(zip(KEY, row.key, strict=True)) | {
            "q": source_of(row), "scale": row.choices.get("scale"),
            "augmentation": row.choices.get("augmentation", "warp"), "seeds": len(ours),
            **values.loc[ours["id"]].mean().to_dict(),
            "r_agreement": ours["r_norm_agreement_within"].mean(), "r_degradation": ours["r_embedding_all"].mean()}
        line |= {f"{name}_{key}": float("nan") for name in values for key in ("difference", "low", "high", "p")}
        seeds = ours.index.intersection(theirs.index)
        if len(seeds) and baseline != (row.part, row.setting):
            gaps = values.loc[ours.loc[seeds, "id"]].to_numpy() - values.loc[theirs.loc[seeds, "id"]].to_numpy()
            for name, gap in zip(values, gaps.mean(0), strict=True):
                found = spread_of(results, row, values[name]).interval(float(gap), len(seeds))
                line |= {f"{name}_difference": gap, **{f"{name}_{key}": found[key] for key in ("low", "high", "p")}}
        lines.append(line)
    table = pd.DataFrame(lines)
    for name in values:
        table[f"{name}_p"] = holm(table[f"{name}_p"])
    return table.rename(columns={f"{name}_p": f"{name}_p_seeds_holm" for name in values}).set_index("part")

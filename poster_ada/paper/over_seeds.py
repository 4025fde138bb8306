"""A margin head less the MLP head in accuracy and macro F1, paired over seeds: a line of the table of findings.

    line = over_seeds({"accuracy": [-1.2, 0.3, -0.8], "macro_f1": [-3.1, -2.0, -4.4]})   # points, one per seed
    ferplus_summary.verdict(line)                                  # "lower macro F1, non-inferiority not shown"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.stats import ttest_1samp

from poster_ada.evaluation.hierarchical import holm
from poster_ada.paper.ablation import paired_test
from poster_ada.paper.ferplus_choice import MARGINS
from poster_ada.paper.study_summary import NAMES, PAIRS


def non_inferior(differences: Sequence[float], margin: float) -> bool:
    """Whether the lower end of the one-sided 95 % interval of the mean is above `-margin`, in points; not for a single
    seed."""
    return len(differences) > 1 and bool(ttest_1samp(differences, -margin, alternative="greater").pvalue < 0.05)


def over_seeds(differences: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The columns of `ferplus_summary.comparisons` for `accuracy` and `macro_f1`, from paired differences in points,
    one per seed; the intervals are over seeds alone."""
    line: dict[str, Any] = {"seeds": len(differences["accuracy"])}
    for name in MARGINS:
        test = paired_test(differences[name])
        line |= {f"{name}_difference": test["difference"], f"{name}_low": test["difference_low"],
                 f"{name}_high": test["difference_high"], f"{name}_p_seeds": test["p"]}
    return line | {"non_inferior": all(non_inferior(differences[name], margin) for name, margin in MARGINS.items())}


def photographs_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The study's margin heads less the MLP head of the same recipe, one line each; `_holm` is corrected for them.

    Args:
        table: of `read_results`.
    """
    lines = []
    by_seed = table.set_index(["setting", "seed"])[[*MARGINS, "label_margin_accuracy"]]
    known = set(table["setting"])
    for setting, baseline in (pair for pair in PAIRS if known.issuperset(pair)):
        gaps = (by_seed.loc[setting] - by_seed.loc[baseline]).dropna()
        lines.append({"comparison": f"{NAMES[setting]} less {NAMES[baseline]}",
                      "label_margin_difference": gaps["label_margin_accuracy"].mean(),
                      **over_seeds({name: gaps[name].to_numpy() for name in MARGINS})})
    found = pd.DataFrame(lines)
    for name in MARGINS if lines else ():
        found[f"{name}_p_seeds_holm"] = holm(found[f"{name}_p_seeds"])
    return found

"""Which setting of AdaFace is confirmed on the test faces: a rule over validation faces, written down before any run of
`confirm` exists.

- Candidates: AdaFace's rows of the search (parts `ingredients`, `quality` and `design`) whose q comes from what a model
  sees of a new face, its norm; q from votes, degradation or another face tells what is possible and is no candidate.
- A setting is compared with the MLP of the published recipe and the same seed, on validation faces: the difference in
  accuracy over its margin of non-inferiority (1 point), that in macro F1 over its (1.5). The lesser of the two means
  over seeds is its score; the highest score is chosen, of equal ones the first of the grid.
- So many fresh seeds that a setting as good as MLP is found non-inferior in both with a power of 80 %, from the spread
  of the search (the differences' standard deviation over seeds, pooled over settings) and of the faces; from 5 to 12.
- The choice is made once, when every row of the search is there; the runs of `confirm` follow from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student_t

from poster_ada.errors import InputError
from poster_ada.evaluation.hierarchical import Measure, accuracy, macro_f1
from poster_ada.files import write_json_atomically
from poster_ada.paper.ferplus_grid import CHOICE, SEARCHED, FerplusRow, baseline_of, grid
from poster_ada.paper.ferplus_results import KEY, FerplusResults

MARGINS = {"accuracy": 1.0, "macro_f1": 1.5}  # points below MLP that are not taken for inferior
MEASURES: dict[str, Measure] = {"accuracy": accuracy, "macro_f1": macro_f1}
POWER = 0.8
FEWEST, MOST = 5, 12  # seeds


def is_candidate(row: FerplusRow) -> bool:
    return (row.part in SEARCHED and row.choices["head"] == "adaface"
            and row.choices.get("quality_from", "norm") == "norm")


def search_table(results: FerplusResults) -> pd.DataFrame:
    """One line per candidate of which all seeds are there, the best first: differences to MLP on validation faces, in
    points, `score`, and their spreads over seeds and faces."""
    lines = []
    wanted = [row for row in grid() if is_candidate(row)]
    for key in dict.fromkeys(row.key for row in wanted):
        own = [row for row in wanted if row.key == key]
        ours, theirs = results.of(key), results.of((*baseline_of(own[0]), *key[2:]))
        seeds = [row.seed for row in own if row.seed in ours.index and row.seed in theirs.index]
        if len(seeds) < len(own):
            continue
        line: dict[str, Any] = dict(zip(KEY, key, strict=True)) | {"seeds": len(seeds)}
        counts = results.confusions(ours.loc[seeds]), results.confusions(theirs.loc[seeds])
        for name, measure in MEASURES.items():
            each = measure(counts[0]) - measure(counts[1])
            line |= {name: each[:, 0].mean(), f"{name}_seeds": each[:, 0].std(ddof=1),
                     f"{name}_faces": each[:, 1:].mean(0).std()}
        lines.append(line | {"score": min(line[name] / margin for name, margin in MARGINS.items())})
    table = pd.DataFrame(lines)
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True) if len(table) else table


def power_of(seeds: int, over_seeds: float, over_faces: float, margin: float) -> float:
    """Chance that a setting as good as MLP is found non-inferior, with so many seeds and these standard deviations."""
    error = np.sqrt(over_seeds**2 / seeds + over_faces**2)
    return float(norm.cdf(margin / error - student_t.ppf(0.95, seeds - 1)))


def choose(results: FerplusResults) -> dict[str, Any]:
    """The rule's choice. Raises InputError while a row of the search is missing."""
    there = set(results.table["id"])
    missing = [row.id for row in grid() if row.part in SEARCHED and row.id not in there]
    if missing:
        raise InputError(f"the choice waits for {len(missing)} runs of the search ({missing[0]}, ...); run them first.")
    found = search_table(results)
    best = found.iloc[0]
    (row, *_) = [row for row in grid() if (row.part, row.setting) == (best["part"], best["setting"])]
    spread = {name: float(np.sqrt((found[f"{name}_seeds"] ** 2).mean())) for name in MEASURES}

    def power(seeds: int) -> float:
        return min(power_of(seeds, spread[name], best[f"{name}_faces"], MARGINS[name]) for name in MEASURES)

    seeds = next((count for count in range(FEWEST, MOST + 1) if power(count) >= POWER), MOST)
    return {"setting": row.setting, "choices": row.choices, "seeds": seeds, "power": power(seeds),
            "score": float(best["score"]), "difference": {name: float(best[name]) for name in MEASURES},
            "spread_over_seeds": spread, "spread_over_faces": {name: float(best[f"{name}_faces"]) for name in MEASURES},
            "candidates": len(found)}


def write_choice(folder: Path) -> dict[str, Any]:
    """Make the choice and keep it. Raises InputError where one was made before, or runs are missing."""
    path = folder / CHOICE
    if path.is_file():
        raise InputError(f"{path} holds the choice already; it is made once.")
    choice = choose(FerplusResults(folder))
    write_json_atomically(path, choice)
    return choice

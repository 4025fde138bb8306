"""What AdaFace costs or gives on FER+: the grid of runs, as rows with names; without torch.

`published` (the heads as published, at three lengths of training), `rivals` (what was made for rare classes),
`ingredients` (one setting of AdaFace changed at a time, judged on validation faces), `quality` (AdaFace's q from what
is known of a face), `design` (scale, margin and smoothing together, around the best scale), `confirm` (what validation
faces chose, once, with fresh seeds: rows are there once `--choose` has written the choice, see ferplus_choice.py). All
train the recipe's loss on 7 classes with `nano`'s schedule.

The plan was for twelve hours on two cores. After 6 of 115 runs, at 237 faces/s a thread, it came to 21 more. So, before
any run of another part: everything that compares many settings takes the shortest length, the two longer ones have
three seeds of the published heads, what is chosen is confirmed at the middle one, and `mini`'s four runs went. With 36
runs of `confirm` it was beyond its hours, so seven runs that were still to come went too: margin 0.75 at the middle
length, the third seed of the longest one and of `adaface-simplex`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

PARTS = ("published", "rivals", "ingredients", "quality", "design", "confirm")
SEARCHED = ("ingredients", "quality", "design")  # judged on validation faces
TABLE = "study_ferplus.csv"  # among the results
PREDICTIONS = "study_ferplus"  # among the results: folder of one small file per run
FACES = f"{PREDICTIONS}/faces.npz"  # what is true of the faces themselves
CHOICE = "study_ferplus_choice.json"  # among the results
LENGTHS = SHORT, MIDDLE, LONG = 6, 12, 24  # epochs
SEEDS = (1, 2, 3, 4, 5)
FEWER, FEWEST = SEEDS[:3], SEEDS[:2]
FRESH = (11, 12)  # of what is chosen by: not the seeds of `published`, so that those can confirm nothing by luck
CONFIRMING = tuple(range(101, 121))  # seeds that nothing else has
CLASSES = 7
# The learning rate falls to a twentieth over a run of any length, as over the 20 epochs of `nano`'s own schedule
# (0.86 each).
FALLS_TO = 0.05

MLP: dict[str, Any] = {"head": "mlp"}
ADAFACE: dict[str, Any] = {"head": "adaface", "margin": 0.4, "scale": 64.0}  # the published setting
PUBLISHED = {"mlp": MLP, "adaface-m0.4": ADAFACE, "adaface-m0.75": ADAFACE | {"margin": 0.75}}
OTHERS = {"cosface": {"head": "cosface", "margin": 0.4, "scale": 64.0},
          "arcface": {"head": "arcface", "margin": 0.5, "scale": 64.0}}
RIVALS: dict[str, dict[str, Any]] = {
    "logit-adjustment": MLP | {"logit_adjustment": 1.0},
    "ldam": {"head": "ldam", "margin": 0.5, "scale": 30.0},  # as published
    "class-balanced-0.999": MLP | {"class_balance": 0.999},
    "class-balanced-0.9999": MLP | {"class_balance": 0.9999},
}
# What keeps rare classes apart by design, at the length at which AdaFace's lie together (ferplus_classes.py).
SIMPLEX: dict[str, dict[str, Any]] = {"adaface-simplex": ADAFACE | {"class_vectors": "simplex"}}
# AdaCos' fixed scale for C classes is sqrt(2) log(C - 1). A constant q is another head: 0 CosFace, -1 ArcFace.
INGREDIENTS: dict[str, dict[str, Any]] = {
    "published": ADAFACE,
    "mlp": MLP,
    **{f"scale-{scale:g}": ADAFACE | {"scale": scale} for scale in (16.0, 8.0, 4.0)},
    "scale-adacos-fixed": ADAFACE | {"scale": math.sqrt(2) * math.log(CLASSES - 1)},
    "scale-adacos-dynamic": ADAFACE | {"scale_rule": "adacos"},
    "scale-learned": ADAFACE | {"scale_rule": "learned"},
    **{f"margin-{margin:g}": ADAFACE | {"margin": margin} for margin in (0.0, 0.1, 0.2)},
    "smoothing-0": ADAFACE | {"label_smoothing": 0.0},
    "mlp-smoothing-0": MLP | {"label_smoothing": 0.0},
    "q-constant-0": ADAFACE | {"head": "cosface"},
    "q-constant-minus-1": ADAFACE | {"head": "arcface"},
    "classes-simplex": ADAFACE | {"class_vectors": "simplex"},
    "q-shuffled": ADAFACE | {"quality_from": "shuffled"},
}
# At s = 64 the first seed of `ingredients` fell so far behind MLP that no q could show what it is worth; before any run
# of `quality`, its scale became the largest that came near MLP.
QUALITY_SCALE = 8.0
QUALITY_BASE = ADAFACE | {"scale": QUALITY_SCALE}
# With h = 1 in place of 0.333, q uses its whole range. Only faces degraded by a known amount have a known quality.
QUALITY: dict[str, dict[str, Any]] = {
    "votes": QUALITY_BASE | {"quality_from": "votes"},
    "votes-h1": QUALITY_BASE | {"quality_from": "votes", "concentration": 1.0},
    "norm-h1": QUALITY_BASE | {"concentration": 1.0},
    "camera-mlp": MLP | {"augmentation": "camera"},
    "camera-norm": QUALITY_BASE | {"augmentation": "camera"},
    "camera-norm-taught": QUALITY_BASE | {"augmentation": "camera", "quality_weight": 3.0},
    "camera-degradation": QUALITY_BASE | {"augmentation": "camera", "quality_from": "degradation"},
    "camera-degradation-h1": QUALITY_BASE | {
        "augmentation": "camera", "quality_from": "degradation", "concentration": 1.0},
}
# A balanced design: every pair of levels meets equally often. The scales are the best two of the first seed of
# `ingredients`, which has the combinations with the margin and the smoothing as published.
FACTORS: dict[str, tuple[float, float]] = {"scale": (8.0, 4.0), "margin": (0.4, 0.1), "label_smoothing": (0.2, 0.0)}


@dataclass(frozen=True)
class FerplusRow:
    """One run of the grid: a setting's name, and what in it differs from `nano`'s schedule."""

    part: str
    setting: str
    seed: int
    epochs: int = SHORT
    preset: str = "nano"
    choices: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.part}-{self.setting}-e{self.epochs}-seed{self.seed}"

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What runs that differ by their seed alone share."""
        return self.part, self.setting, self.epochs, self.preset


def gamma_of(epochs: int) -> float:
    """What every epoch multiplies the learning rate by: 0.607, 0.7791 and 0.8827 for 6, 12 and 24 epochs."""
    return round(FALLS_TO ** (1 / epochs), 4)


def design() -> dict[tuple[str, str], dict[str, float]]:
    """The eight combinations of the balanced design: part and setting of their rows, and what they set."""
    found = {}
    for levels in product(*FACTORS.values()):
        combination = dict(zip(FACTORS, levels, strict=True))
        scale, margin, smoothing = levels
        known = (margin, smoothing) == (ADAFACE["margin"], FACTORS["label_smoothing"][0])
        name = ("ingredients", f"scale-{scale:g}") if known else (
            "design", f"scale-{scale:g}-margin-{margin:g}-smoothing-{smoothing:g}")
        found[name] = combination
    return found


def grid(choice: Mapping[str, Any] | None = None) -> list[FerplusRow]:
    """Every run, in the order in which they are done: seeds outermost, so that what is cut short is still paired.

    Args:
        choice: of `read_choice`, for the rows of `confirm`.
    """
    designed = {name: ADAFACE | levels for (part, name), levels in design().items() if part == "design"}
    parts = (
        _rows("published", PUBLISHED, SEEDS),
        _rows("published", {name: PUBLISHED[name] for name in ("mlp", "adaface-m0.4")}, FEWER, MIDDLE),
        _rows("published", PUBLISHED, FEWEST, LONG),
        _rows("published", OTHERS, FEWER), _rows("rivals", RIVALS, FEWER), _rows("rivals", SIMPLEX, FEWEST, MIDDLE),
        _rows("ingredients", INGREDIENTS, FRESH), _rows("quality", QUALITY, FRESH),
        _rows("design", designed, FRESH), _confirm(choice),
    )
    return [row for part in parts for row in part]


def _rows(
    part: str, settings: Mapping[str, dict[str, Any]], seeds: Sequence[int], epochs: int = SHORT
) -> Iterator[FerplusRow]:
    for seed in seeds:
        for name, choices in settings.items():
            yield FerplusRow(part, name, seed, epochs, choices=choices)


def _confirm(choice: Mapping[str, Any] | None) -> Iterator[FerplusRow]:
    if choice is None:
        return
    of_head = ("head", "margin", "scale", "scale_rule", "class_vectors", "concentration", "quality_from",
               "quality_weight")
    same = {name: value for name, value in choice["choices"].items() if name not in of_head} | MLP
    compared = {choice["setting"]: choice["choices"], "mlp": MLP} | ({"mlp-same-recipe": same} if same != MLP else {})
    yield from _rows("confirm", compared, CONFIRMING[:choice["seeds"]], MIDDLE)


def read_choice(results: Path) -> dict[str, Any] | None:
    """The setting that is to be confirmed, its `choices` and number of `seeds`; None before `--choose` wrote it."""
    path = results / CHOICE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def baseline_of(row: FerplusRow) -> tuple[str, str]:
    """Part and setting of the MLP that a row is compared with: same seed, length and size."""
    part = "published" if row.part == "rivals" else "ingredients" if row.part in SEARCHED else row.part
    return part, "mlp"

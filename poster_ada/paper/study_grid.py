"""Is AdaFace really worse? The grid of runs that answers it, as rows with names; without torch.

Three stages: `protocol` (the published heads), `search` (settings of AdaFace's head, judged on validation faces alone)
and `confirm` (the chosen setting, and MLP under the same recipe, on the test faces).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from poster_ada.training.recipe import HEAD_RECIPES

STAGES = ("protocol", "search", "confirm")
CHOSEN = "adaface-fer"  # of recipe.HEAD_RECIPES: what the search led to
SEEDS = (1, 2, 3, 4, 5)
OF_MARGIN_HEADS = ("margin", "scale", "concentration", "t_alpha", "norm_source", "quality_weight")
SETTINGS = ("head", *OF_MARGIN_HEADS, "augmentation", "label_smoothing", "validation_fraction", "epochs", "batch_size",
            "lr", "gamma", "rho", "seed")
# The search's levels. Its seeds are not those of the other stages, so that the confirmation is a fresh draw.
SEARCH: dict[str, tuple] = {
    "concentration": (0.333, 1.0), "scale": (4.0, 8.0, 16.0), "margin": (0.1, 0.2, 0.4), "t_alpha": (0.01, 0.1, 1.0),
    "norm_source": ("embedding", "pre_norm", "image"), "quality_weight": (0.0, 1.0, 3.0),
    "label_smoothing": (0.0, 0.1, 0.2), "seed": (11, 12, 13),
}
# The usual tenth of the training faces is too few to tell settings apart; the norm can only learn from faces that
# are not all of one quality.
SEARCH_FIXED = {"head": "adaface", "augmentation": "camera", "validation_fraction": 0.25}
# Taguchi's L18: every pair of columns holds every pair of levels equally often, so that each factor's effect is a mean
# over 18 runs in which the others are balanced, where the full grid would take 4374.
L18 = ("00000000", "00111111", "00222222", "01001122", "01112200", "01220011", "02010212", "02121020", "02202101",
       "10022110", "10100221", "10211002", "11012021", "11120102", "11201210", "12021201", "12102012", "12210120")


@dataclass(frozen=True)
class Row:
    """One run of the grid: a setting's name and what in it differs from the preset's published recipe."""

    stage: str
    setting: str
    seed: int
    choices: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.stage}-{self.setting}-seed{self.seed}"


def grid(seeds: Sequence[int] = SEEDS) -> list[Row]:
    """Every run, in the order in which they are done; `seeds` are those of `protocol` and `confirm`."""
    published = {"mlp": {"head": "mlp"}} | {
        f"adaface-m{margin}": {"head": "adaface", "margin": margin} for margin in (0.4, 0.75)
    }
    rows = [Row("protocol", name, seed, choices) for seed in seeds for name, choices in published.items()]
    for number, levels in enumerate(L18, 1):
        choices = {name: values[int(level)] for (name, values), level in zip(SEARCH.items(), levels, strict=True)}
        seed = choices.pop("seed")
        rows.append(Row("search", f"{number:02d}", seed, SEARCH_FIXED | choices))
    rows[len(rows) - len(L18):] = sorted(rows[-len(L18):], key=lambda row: row.seed)  # one validation split at a time
    if CHOSEN in HEAD_RECIPES:
        # MLP under every choice that is not the head's own, so that the head alone makes the difference.
        chosen = HEAD_RECIPES[CHOSEN]
        same = {key: value for key, value in chosen.items() if key not in OF_MARGIN_HEADS} | {"head": "mlp"}
        compared = {CHOSEN: chosen, "mlp-same-recipe": same}
        rows += [Row("confirm", name, seed, choices) for seed in seeds for name, choices in compared.items()]
    return rows

"""Which trainings the notebooks ask for, so that the report can do all of them side by side before it runs any."""

from __future__ import annotations

from collections.abc import Sequence

from poster_ada.data.layouts import Dataset
from poster_ada.paper.ablation import FAST_ROWS, SEEDS, row_config, table_rows
from poster_ada.training.recipe import TrainConfig, fit_recipe

BOTH = ("mlp", "adaface")
HEADS_OF = {"02": ("mlp",), "03": ("adaface",), "04": BOTH, "06": BOTH, "solutions": BOTH}  # by how a name begins
ABLATION = "05"


def trainings_of(
    notebooks: Sequence[str], dataset: Dataset, preset: str, epochs: int | None = None,
    seeds: Sequence[int] | None = None, fast: bool = False,
) -> list[TrainConfig]:
    """What these notebooks train with these parameters, each training once."""
    found: dict[TrainConfig, None] = {}
    for name in notebooks:
        for head in (head for begins, heads in HEADS_OF.items() if name.startswith(begins) for head in heads):
            found[fit_recipe(dataset, preset, head=head, epochs=epochs)] = None
        if name.startswith(ABLATION):
            rows = [row for row in table_rows() if not fast or row.name in FAST_ROWS]
            found |= {row_config(row, dataset, preset, seed, epochs): None for row in rows for seed in seeds or SEEDS}
    return list(found)

"""The paper, typeset from what the notebooks and the studies left.

    typeset(Path("figures"))     # figures/report.pdf

report/report.typ reads tables, numbers and figures itself. What Typst cannot know is handed to it: which of those files
are there, and every setting of the recipes, from the code that trains with them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from poster_ada.errors import InputError
from poster_ada.model.config import PRESETS, PosterConfig
from poster_ada.model.heads import Head
from poster_ada.paper import ablation, ferplus_grid, study_grid
from poster_ada.training.recipe import HEAD_RECIPES, VARIANTS, TrainConfig

CHECKOUT = Path(__file__).resolve().parents[2]
PAPER = CHECKOUT / "report" / "report.typ"
RESULTS = CHECKOUT / "results"
# Names and places, not choices; the seeds, of which a study has several; and the margin, which is each head's own.
LEFT_OUT = ("model", "preset", "data", "pretrained", "checkpoint", "class_names", "seed", "margin")


def typeset(figures: Path, paper: Path = PAPER, results: Path = RESULTS) -> Path:
    """Typeset `figures/report.pdf` from the tables, numbers and figures in `figures` and `results`; returns its path.

    Raises:
        InputError: something that the paper needs is missing or has another form.
    """
    import typst  # of the notebooks extra, like papermill, but only this step needs it

    figures, results = figures.resolve(), results.resolve()
    # Typst reads no file outside its root.
    root = Path(os.path.commonpath([figures, paper, results]))
    target = figures / "report.pdf"
    places = {"figures": figures, "results": results}
    handed = {name: "/" + place.relative_to(root).as_posix() for name, place in places.items()} | {
        "there": json.dumps(sorted(path.name for place in places.values() for path in place.iterdir())),
        "settings": json.dumps(settings_tables()),
    }
    try:
        typst.compile(paper, output=target, root=root, ignore_system_fonts=True, sys_inputs=handed)
    except typst.TypstError as error:
        raise InputError(f"{paper.name} could not be typeset: {error}; run the report again from its start.") from error
    return target


def settings_tables() -> dict[str, Any]:
    """The appendix: every field of the model's and the recipe's configuration, and what each named setting changes.

    `model` and `training` have `columns` and `rows` (the field's name, then a value per column); `margins` the margin
    that each head has unless told otherwise; `named` pairs of a name and what it sets.
    """
    models = {"POSTER-s, published": PRESETS["small"], "nano": PRESETS["nano"], "mini": PRESETS["mini"]}
    lengths = sorted(ferplus_grid.LENGTHS)
    by_length = [TrainConfig.for_preset("nano", epochs=epochs, gamma=ferplus_grid.gamma_of(epochs))
                 for epochs in lengths]
    recipes = {
        "published": [TrainConfig.for_preset("small")], "demo, long": [TrainConfig.for_preset("nano")],
        "demo, short": [TrainConfig.for_preset("nano", "ablation")],
        "photos": [TrainConfig.for_preset("nano", "study")], "FER+": by_length,
    }
    seeds = [(TrainConfig().seed,), (TrainConfig().seed,), ablation.SEEDS, study_grid.SEEDS, ferplus_grid.SEEDS]
    margins = {kind.title: text(kind.default_margin) for kind in Head.classes.values()
               if hasattr(kind, "default_margin")}
    variants = {"w/MLP": VARIANTS["mlp"], "w/IRf": VARIANTS["irf"], "w/DA": VARIANTS["da"]}
    named = {f"report, {name}": changes_of(choices) for name, choices in variants.items()}
    named |= {f"photographs, {name}": changes_of(choices) for name, choices in HEAD_RECIPES.items()}
    named |= {f"FER+, {row.setting}": changes_of(row.choices) for row in ferplus_grid.grid()}
    return {
        "model": {"columns": list(models), "rows": [
            [name, *(text(getattr(model, name)) for model in models.values())] for name in names_of(PosterConfig)]},
        "training": {"columns": list(recipes), "rows": [
            [name, *(", ".join(dict.fromkeys(text(getattr(recipe, name)) for recipe in same))
                     for same in recipes.values())] for name in names_of(TrainConfig)]
            + [["seeds", *map(text, seeds)]]},
        "margins": margins, "named": list(named.items()),
    }


def names_of(config_class: Any) -> list[str]:
    return [field.name for field in fields(config_class) if field.name not in LEFT_OUT]


def changes_of(choices: Mapping[str, Any]) -> str:
    """`head adaface, margin 0.4, scale 64`."""
    return ", ".join(f"{name} {text(value)}" for name, value in choices.items())


def text(value: Any) -> str:
    """A setting's value as the paper shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return ", ".join(f"({text(part)})" if isinstance(part, tuple) else text(part) for part in value)
    return "--" if value is None else str(value)

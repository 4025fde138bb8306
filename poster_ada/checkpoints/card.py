"""The model card of a checkpoint, in the Hugging Face Hub's format: what it was made from, how good it is, limits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from poster_ada.checkpoints.names import SHIPPED
from poster_ada.model.config import size_name
from poster_ada.model.poster import Poster

LICENCE = "apache-2.0"
INTENDED = """\
For teaching, for research on expression recognition, and as a starting point for training on faces of your own. Its
labels are what annotators said of a picture, not what a person feels: it is not for judging people, in work,
school, health, law or anywhere else."""
LIMITS = """\
It knows the faces and the annotators it was trained with and no others. Whatever these lack (ages, skin colours,
profiles, masks, drawings, very dark or very small faces, expressions that are played) is outside of what was measured.
Rare classes rest on few faces; where there are results above, they say on how many."""


def model_card(
    model: Poster, name: str, training: Mapping[str, Any] | None = None, scores: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (), limits: Sequence[str] = (),
) -> str:
    """Markdown with the Hub's YAML on top.

    Args:
        name: of the model, as it is loaded: one that comes with the package, a folder, or `user/name` on the Hub.
        training: what its checkpoint's header says of its training, if anything.
        scores: `compute_metrics` of its test faces, and under `test_without_twins` those of the faces without a twin in
            training.
        notes, limits: further paragraphs on its training and on its limits.
    """
    training, scores, c = dict(training or {}), dict(scores or {}), model.config
    data = str(training.get("data", "unknown faces"))
    title, loader = name.rsplit("/", 1)[-1], "load_checkpoint" if name in SHIPPED else "from_pretrained"
    results = [
        EvalResult("image-classification", re.sub(r"\W+", "-", data.lower()).strip("-"), data, metric,
                   round(100 * scores[score], 2))
        for metric, score in (("accuracy", "accuracy"), ("f1", "macro_f1")) if score in scores
    ]
    header = ModelCardData(
        license=LICENCE, library_name="poster-ada", pipeline_tag="image-classification", metrics=["accuracy", "f1"],
        tags=["facial-expression-recognition", "poster", c.head], model_name=title, eval_results=results or None,
    )
    parts = [
        f"---\n{header.to_yaml()}\n---", f"# {title}",
        f"Facial expressions of {c.num_classes} classes ({', '.join(c.class_names)}), recognised by POSTER "
        f"({size_name(c)}, {c.head} head) from faces of {c.image_size} x {c.image_size} pixels.",
        f'```python\nimport poster_ada\n\nmodel = poster_ada.{loader}("{name}")\n```',
        f"## Training\n\n{_training(training)}", *notes,
        f"## Results\n\n{_results(scores)}" if scores else "",
        f"## Intended use\n\n{INTENDED}", f"## Limits\n\n{LIMITS}", *limits,
        "## Licence\n\nThe weights come under Apache-2.0, as the code that made them; the faces keep the terms of "
        "their own set and are not in here.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _training(training: Mapping[str, Any]) -> str:
    """What the header of a file says; a file from elsewhere may say anything."""
    if "data" not in training:
        return "The file does not say how it was trained."
    recipe, where = ({} if not isinstance(part := training.get(name), Mapping) else part
                     for name in ("recipe", "environment"))
    trained = f"Trained on {training['data']}"
    if faces := training.get("train_faces"):
        trained += f", {faces} faces"
    if {"epoch", "selected_on"} <= training.keys() and "epochs" in recipe:
        trained += f"; epoch {training['epoch']} of {recipe['epochs']} was chosen on {training['selected_on']}"
    made = [f"Commit {where['commit']}"] if "commit" in where else []
    made += [str(training["precision"])] if "precision" in training else []
    made += [f"torch {where['torch']}"] if "torch" in where else []
    lines = [f"{trained}. {', '.join(made)}." if made else f"{trained}."]
    if command := training.get("command"):
        lines += ["To train it again:", f"```bash\n{command}\n```"]
    return "\n\n".join(lines)


def _results(scores: Mapping[str, Any]) -> str:
    def line(what: str, of: Mapping[str, Any]) -> str:
        cells = []
        for score in ("accuracy", "macro_f1", "calibration_error"):
            low, high = of.get("intervals", {}).get(score, (None, None))
            interval = "" if low is None else f" ({100 * low:.1f} to {100 * high:.1f})"
            cells.append(f"{100 * of[score]:.1f}{interval}")
        return f"| {what} | {of['faces']} | {' | '.join(cells)} |"

    rows = ["| test faces | number | accuracy, % | macro F1, % | calibration error, % |", "|---|---|---|---|---|",
            line("all", scores)]
    if alone := scores.get("test_without_twins"):
        rows.append(line("without a twin in training", alone))
    rows += ["", "In brackets 95 % intervals over faces.", "",
             "| class | recall, % | precision, % | F1, % | test faces |", "|---|---|---|---|---|"]
    for name, values in scores["per_class"].items():
        cells = ["-" if values[score] is None else f"{100 * values[score]:.1f}"
                 for score in ("recall", "precision", "f1")]
        rows.append(f"| {name} | {' | '.join(cells)} | {values['support']} |")
    return "\n".join(rows)

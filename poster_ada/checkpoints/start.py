"""Going on from a checkpoint on other faces: its weights, and its head's for the classes that both have."""

from __future__ import annotations

from pathlib import Path

import torch

from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.data.labels import class_meaning
from poster_ada.errors import InputError
from poster_ada.model.poster import Poster

CLASS_AXIS = {"weight": 0, "bias": 0, "kernel": 1}  # of the heads' parameters


@torch.no_grad()
def start_from(model: Poster, path: str | Path) -> list[str]:
    """Fill `model` with a checkpoint's weights.

    Classes are matched by name, different words for one expression being the same. A class that the checkpoint does
    not know keeps its random weights, and so does the whole head where it is of another kind.

    Returns:
        What was loaded, in words for the record.

    Raises:
        InputError: the file is no checkpoint, or its model has another size than `model`.
    """
    source = load_checkpoint(path)
    ours, theirs = model.state_dict(), source.state_dict()
    for name, value in ours.items():
        if not name.startswith("head."):
            if name not in theirs or theirs[name].shape != value.shape:
                raise InputError(f"{path} is a model of another size or variant: {name} does not fit; train from it "
                                 "with the settings it has.")
            value.copy_(theirs[name])
    model.face_template = source.face_template
    loaded = [Path(path).name]
    if model.config.head != source.config.head:
        return [*loaded, f"without its {source.config.head} head"]
    known = {class_meaning(name): place for place, name in enumerate(source.config.class_names)}
    pairs = [(place, known[class_meaning(name)]) for place, name in enumerate(model.config.class_names)
             if class_meaning(name) in known]
    here, there = (torch.tensor(places, dtype=torch.long) for places in zip(*pairs, strict=True)) if pairs else (
        torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    fixed = model.config.class_vectors == "simplex" and len(pairs) < model.config.num_classes  # would be one no more
    for name, value in model.head.state_dict().items():
        if name == "kernel" and fixed:
            continue
        if name in CLASS_AXIS:
            value.index_copy_(CLASS_AXIS[name], here, theirs[f"head.{name}"].index_select(CLASS_AXIS[name], there))
        elif (other := theirs.get(f"head.{name}")) is not None and other.shape == value.shape:
            value.copy_(other)  # not a scale of another rule, nor margins of other classes, which training counts anew
    return [*loaded, f"its head for {len(pairs)} of {model.config.num_classes} classes"]

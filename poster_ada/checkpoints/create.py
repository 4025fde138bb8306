"""Models from a name or from a file: `create_model`, timm's convention, and `load_checkpoint`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from poster_ada.checkpoints.fill import fill
from poster_ada.checkpoints.names import PRETRAINED_FOLDER, checkpoint_path
from poster_ada.checkpoints.own import STATE_PREFIX, read_own
from poster_ada.checkpoints.pretrained import load_pretrained_parts
from poster_ada.checkpoints.published import (
    ADAFACE_DEAD,
    DEAD_SHAPES,
    MOST_CLASSES,
    infer_config,
    published_name,
    read_published_tensors,
)
from poster_ada.errors import InputError
from poster_ada.model.config import PRESETS, PosterConfig
from poster_ada.model.poster import FACE_POINTS, FaceTemplate, Poster

# What a published file does not hold, so that whoever opens it may say it: these move the margin, never a prediction.
UNTOLD = ("margin", "scale", "concentration", "norm_source")


def create_model(name: str, pretrained: bool | str | Path = False, **choices: Any) -> Poster:
    """A new model of a preset's size, in training mode.

        create_model("large", pretrained=True, head="adaface", num_classes=8)

    Args:
        name: `nano`, `mini`, `small`, `base` or `large`.
        pretrained: start from IR-50 and MobileFaceNet in this folder (True: `models/pretrain`; what is absent there is
            warned of), or, for `nano` and `mini`, from a landmark stream that comes with the package. False: random
            weights.
        choices: fields of `PosterConfig`, instead of the preset's.

    Raises:
        InputError: there is no such preset or field, a value is out of its range, or a file is not what it should be.
    """
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}.")
    if unknown := set(choices) - set(PosterConfig.__dataclass_fields__):
        raise InputError(f"there is no setting {', '.join(sorted(unknown))} in the model.")
    model = Poster(replace(PRESETS[name], **({"class_names": ()} | choices)))
    if pretrained:
        load_pretrained_parts(model, PRETRAINED_FOLDER if pretrained is True else pretrained)
    return model


def load_checkpoint(path: str | Path, **told: Any) -> Poster:
    """A ready model, in `eval()` mode on the CPU, from a published or one of this project's checkpoint files.

    Published files tell their size, classes, head and variant by their keys. One thing they cannot tell: a margin head
    without statistics may be ArcFace or CosFace; both predict the same, and it is taken for ArcFace.

    Args:
        path: `.pth` / `.pth.tar` (published) or `.safetensors` (this project's), or the name of one that comes with the
            package: `mini-ferplus`.
        told: `margin`, `scale`, `concentration` or `norm_source` of a published file, which holds none of them;
            without it, the published one. They matter for training on and for the label-margin protocol alone.

    Raises:
        InputError: one sentence that names the file and what is wrong with it.
    """
    path = checkpoint_path(path)
    told = {name: value for name, value in told.items() if value is not None}
    if unknown := set(told) - set(UNTOLD):
        raise InputError(f"{', '.join(sorted(unknown))} cannot be told for a checkpoint; only {', '.join(UNTOLD)} can.")
    if path.suffix == ".safetensors":
        description, tensors = read_own(path)
        model = _described(description["model"], len(tensors), path)
        for name, value in told.items():
            if value != (own := getattr(model.config, name)):
                raise InputError(f"{path} says {name} = {own} itself; leave out {name} {value}.")
        fill(model, tensors, path, lambda name: name, lambda key: key.startswith(STATE_PREFIX))
        model.temperature, model.face_template = _prediction(description.get("prediction", {}), path)
        if isinstance(description.get("training"), dict):
            model.provenance = description["training"]
    else:
        tensors = read_published_tensors(path)
        model = _without_weights(replace(infer_config(tensors, path), **told))
        dead: Mapping[str, Any] = DEAD_SHAPES | ADAFACE_DEAD if model.config.head == "adaface" else DEAD_SHAPES
        fill(model, tensors, path, published_name, lambda key: key in dead)
    return model.eval()


def _described(values: Mapping[str, Any], tensors: int, path: Path) -> Poster:
    """The model of a file's header, which may be damaged: more layers than the file has tensors are not even tried."""
    try:
        layers = [values.get("depth", 1), *values.get("image_blocks", ()), *(
            stage[3] for stage in values.get("landmark_stages", ()) if len(stage) > 3)]
        if sum(layers) > tensors or values.get("num_classes", 2) > MOST_CLASSES:
            raise InputError("it has more layers or classes than tensors for them")
        return _without_weights(PosterConfig.from_dict(values))
    except (TypeError, ValueError, RuntimeError, OverflowError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise InputError(f"{path} has a model configuration that cannot be built ({str(error).rstrip('.')}); copy the "
                         "file again.") from None


def _prediction(values: Mapping[str, Any], path: Path) -> tuple[float, FaceTemplate | None]:
    """Temperature and face template of a file's header; files from before version 0.3 have neither."""
    try:
        temperature, points = float(values.get("temperature", 1.0)), values.get("face_template")
        template = None if points is None else tuple((float(x), float(y)) for x, y in points)
    except (TypeError, ValueError, AttributeError):
        temperature, template = math.nan, None
    if not 0 < temperature < math.inf or template and not (
            len(template) == FACE_POINTS and all(map(math.isfinite, chain(*template)))):
        raise InputError(f"{path} has a temperature or a face template that cannot be used; copy the file again.")
    return temperature, template


def _without_weights(config: PosterConfig) -> Poster:
    with torch.device("meta"):
        return Poster(config)

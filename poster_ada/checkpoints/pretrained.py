"""Weights that a model starts from: IR-50 and MobileFaceNet of the published sizes, or a landmark stream of ours."""

from __future__ import annotations

import json
import re
import warnings
from functools import cache
from pathlib import Path

from poster_ada.checkpoints.fill import fill
from poster_ada.checkpoints.names import IR50_FILE, PRETRAINED_FILES, WEIGHTS
from poster_ada.checkpoints.own import read_own
from poster_ada.checkpoints.published import IMAGE_RULES, LANDMARK_RULES, read_published_tensors, translate
from poster_ada.model.config import PosterConfig, size_name
from poster_ada.model.image_stream import ImageStream
from poster_ada.model.landmark_stream import LandmarkStream
from poster_ada.model.poster import Poster

LANDMARKS = {name: WEIGHTS / f"{name}_landmarks.safetensors" for name in ("nano",)}


def landmark_fields(config: PosterConfig) -> dict:
    """The part of a configuration that decides whether landmark-stream weights fit, as JSON gives it back."""
    names = ("stream_size", "landmark_stem", "landmark_stages", "embed_dim", "grid")
    return json.loads(json.dumps({name: getattr(config, name) for name in names}))


def load_ir50(stream: ImageStream, path: str | Path) -> None:
    """Fill the image stream from `ir50.pth` (MS1M ArcFace); its last stage and output layer are left out."""
    kept = len(stream.blocks)
    beyond = re.compile(r"output_layer\.|body\.(\d+)\.")
    fill(stream, read_published_tensors(path), path, lambda name: translate(name, IMAGE_RULES),
          lambda key: (m := beyond.match(key)) is not None and (m[1] is None or int(m[1]) >= kept))


def load_mobilefacenet(stream: LandmarkStream, path: str | Path) -> None:
    """Fill the landmark stream from `mobilefacenet_model_best.pth.tar`."""
    fill(stream, read_published_tensors(path), path, lambda name: translate(name, LANDMARK_RULES))
    stream.freeze()


@cache
def _warn_once(directory: Path, missing: str) -> None:
    warnings.warn(
        f"{missing} not found in {directory}: that part starts from random weights and the published accuracy is out "
        "of reach; run `python -m poster_ada.download pretrained`.", stacklevel=4,
    )


def load_pretrained_parts(model: Poster, directory: str | Path) -> list[str]:
    """Load the pretrained IR-50 and MobileFaceNet into a published size; what is absent is warned of once.

    Other sizes take a landmark stream that comes with the package, where one fits.

    Returns:
        The names of the files that were loaded.
    """
    config = model.config
    files = pretrained_files(config, directory)
    if config.embed_dim != 512 and files:
        description, tensors = read_own(files[0])
        if config.channel_order != description["training"]["channel_order"]:
            tensors["stem.0.conv.weight"] = tensors["stem.0.conv.weight"].flip(1)
        fill(model.landmark_stream, tensors, files[0], lambda name: name)
    elif size_name(config) == "mini":
        pass  # its landmark stream stays as it was drawn
    elif config.embed_dim != 512:
        _warn_once(WEIGHTS, "landmark weights for this size")
    else:
        for path in files:
            if path.name == IR50_FILE:
                load_ir50(model.image_stream, path)
            else:
                load_mobilefacenet(model.landmark_stream, path)
        if missing := [name for name in PRETRAINED_FILES if Path(directory, name) not in files]:
            _warn_once(Path(directory), " and ".join(missing))
    return [path.name for path in files]


def pretrained_files(config: PosterConfig, directory: str | Path) -> list[Path]:
    """The files that `load_pretrained_parts` would read for a model of this configuration; absent ones are left out."""
    if config.embed_dim == 512:
        return [path for name in PRETRAINED_FILES if (path := Path(directory, name)).is_file()]
    return [path for path in LANDMARKS.values() if read_own(path)[0]["model"] == landmark_fields(config)]

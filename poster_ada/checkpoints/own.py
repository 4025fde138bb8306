"""This project's checkpoints: safetensors, with the model's configuration and how it was trained in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from poster_ada.errors import InputError
from poster_ada.files import write_atomically
from poster_ada.model.poster import Poster

STATE_PREFIX = "training/"  # of tensors that are not the model's


def save_checkpoint(
    model: Poster, path: str | Path, training: Mapping[str, object] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write this project's format: safetensors whose header carries the model's configuration, its
    temperature and face template, and how it was trained.

    Args:
        path: ends in `.safetensors`; written atomically.
        training: JSON-able record (recipe, data set, epoch, scores).
        state: further tensors that resuming needs; `load_checkpoint` passes over them.
    """
    prediction = {"temperature": model.temperature, "face_template": model.face_template}
    header = {"poster_ada": json.dumps(
        {"model": model.config.to_dict(), "prediction": prediction, "training": dict(training or {})})}
    tensors = dict(model.state_dict()) | {STATE_PREFIX + key: value for key, value in (state or {}).items()}
    content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, header)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def read_own(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Header (`model`, `training`) and tensors of a file in this project's format. Raises InputError."""
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint file {path}.")
    try:
        with safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {}).get("poster_ada", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise InputError(f"{path} is not a safetensors file or is cut short; download or copy it again.") from None
    if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
        raise InputError(f"{path} was not written by this project: its header has no model configuration.")
    return description, tensors

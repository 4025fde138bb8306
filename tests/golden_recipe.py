"""The weights and inputs from which the published implementation's golden outputs were computed."""

from __future__ import annotations

import json
import zlib
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
KEYS: dict[str, dict[str, list[int]]] = json.loads((GOLDEN / "state_dict_keys.json").read_text())


def recipe_tensor(key: str, shape: list[int]) -> Tensor:
    g = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if key.endswith("running_var"):
        value = 0.5 + g.random(shape)
    elif key.endswith("running_mean"):
        value = 0.1 * g.standard_normal(shape)
    elif key in ("head.t", "head.batch_mean", "head.batch_std"):
        value = np.full(shape, {"head.t": 0.0, "head.batch_mean": 20.0, "head.batch_std": 100.0}[key])
    elif key.endswith("bias"):
        value = 0.1 * g.standard_normal(shape)
    elif len(shape) == 1:
        value = 0.6 + 0.2 * g.standard_normal(shape)
    else:
        value = g.standard_normal(shape) / np.sqrt(prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def recipe_state_dict(config: str, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + key: recipe_tensor(key, shape) for key, shape in KEYS[config].items()}


def recipe_images(batch: int = 4) -> Tensor:
    g = np.random.Generator(np.random.PCG64(2023))
    return torch.from_numpy(g.standard_normal((batch, 3, 224, 224)).astype(np.float32))


RECIPE_LABELS = torch.tensor([3, 0, 6, 2])


def golden(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}

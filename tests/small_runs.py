"""The smallest model and recipe that train, in a fraction of a second."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

import poster_ada
from poster_ada.training.recipe import TrainConfig
from poster_ada.training.runs import Run

SMALL: dict[str, Any] = dict(
    image_size=24, stream_size=24, grid=3, embed_dim=16, num_heads=2, depth=1, image_widths=(8, 8, 8, 16),
    image_blocks=(1, 1, 1), landmark_stem=8, landmark_stages=((8, 1, 1, 1, 2), (16, 2, 1, 1, 2)),
)


def small(faces: Path, **choices: Any) -> TrainConfig:
    """Two epochs of the smallest model on a folder of faces, batches of 8, float32; `choices` as for `for_preset`."""
    return TrainConfig.for_preset("nano", **(SMALL | {"data": str(faces), "epochs": 2, "batch_size": 8,
                                                    "precision": "float32"} | choices))


def child_process(**variables: str) -> dict[str, Any]:
    """Where a process that a test starts runs, and in what environment: the package that is tested here, one thread."""
    place = Path(poster_ada.__file__).parents[1]
    path = os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH", ""))))
    return {"cwd": place, "env": os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | variables}


def weights(run: Run, which: str) -> dict[str, torch.Tensor]:
    return run.model(which).state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

"""POSTER with AdaFace's quality-adaptive margin head for facial expression recognition.

    import poster_ada
    model = poster_ada.create_model("nano", pretrained=True, head="adaface")

Names are loaded when they are first used, so `import poster_ada` and every `--help` are quick.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from poster_ada import openmp as openmp  # first: it has to come before torch

if TYPE_CHECKING:
    from poster_ada.checkpoints.create import create_model as create_model
    from poster_ada.checkpoints.create import load_checkpoint as load_checkpoint
    from poster_ada.checkpoints.hub import from_pretrained as from_pretrained
    from poster_ada.checkpoints.hub import push_to_hub as push_to_hub
    from poster_ada.checkpoints.hub import save_pretrained as save_pretrained
    from poster_ada.checkpoints.own import save_checkpoint as save_checkpoint
    from poster_ada.data.datasets import open_dataset as open_dataset
    from poster_ada.data.loader import FaceLoader as FaceLoader
    from poster_ada.data.transforms import EvaluationTransform as EvaluationTransform
    from poster_ada.data.transforms import TrainingTransform as TrainingTransform
    from poster_ada.errors import InputError as InputError
    from poster_ada.evaluation.metrics import compute_metrics as compute_metrics
    from poster_ada.evaluation.predict import predict_split as predict_split
    from poster_ada.model.config import PRESETS as PRESETS
    from poster_ada.model.config import PosterConfig as PosterConfig
    from poster_ada.model.poster import Poster as Poster
    from poster_ada.recognition.recognizer import Recognizer as Recognizer
    from poster_ada.training.recipe import TrainConfig as TrainConfig
    from poster_ada.training.recipe import fit_recipe as fit_recipe
    from poster_ada.training.runs import Run as Run

_HOMES = {
    "checkpoints.create": ("create_model", "load_checkpoint"),
    "checkpoints.hub": ("from_pretrained", "push_to_hub", "save_pretrained"),
    "checkpoints.own": ("save_checkpoint",),
    "data.datasets": ("open_dataset",),
    "data.loader": ("FaceLoader",),
    "data.transforms": ("EvaluationTransform", "TrainingTransform"),
    "errors": ("InputError",),
    "evaluation.metrics": ("compute_metrics",),
    "evaluation.predict": ("predict_split",),
    "model.config": ("PRESETS", "PosterConfig"),
    "model.poster": ("Poster",),
    "recognition.recognizer": ("Recognizer",),
    "training.recipe": ("TrainConfig", "fit_recipe"),
    "training.runs": ("Run",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MOVED = {"summary": "print(model), or poster_ada.model.summary.summary_table(model)"}

__all__ = sorted(_HOME_OF)

try:
    __version__ = version("poster-ada")
except PackageNotFoundError:  # run from a checkout that nobody installed
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(f"poster_ada.{_HOME_OF[name]}"), name)
    hint = f": since version 0.2 it is {_MOVED[name]}" if name in _MOVED else ""
    raise AttributeError(f"module 'poster_ada' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])

"""Face sets: opening and checking them, augmentation, and batches for the network."""

from poster_ada.data.check import DataWarning, Findings, check_dataset
from poster_ada.data.datasets import (
    AffectNet,
    ClassFolders,
    Dataset,
    FaceSplit,
    KaggleRafDb,
    RafDb,
    open_dataset,
    split_train_validation,
)
from poster_ada.data.degrade import degrade
from poster_ada.data.loader import Batch, FaceLoader
from poster_ada.data.transforms import EvaluationTransform, TrainingTransform

__all__ = [
    "AffectNet", "Batch", "ClassFolders", "DataWarning", "Dataset", "EvaluationTransform", "FaceLoader", "FaceSplit",
    "Findings", "KaggleRafDb", "RafDb", "TrainingTransform", "check_dataset", "degrade", "open_dataset",
    "split_train_validation",
]
